import { equal, match } from "node:assert/strict";
import { virtioSlot } from "../../src/machine/layout.ts";
import * as abi from "../../src/virtio/abi.ts";
import { VMM_EXIT, type VmmRequest } from "../../src/vmm/protocol.ts";
import { exists } from "../support/command.ts";
import { asm, elfOf } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";

const SERIAL = 0x3f8;
const POWER = 0x300;
/** The second device: the first is the source of entropy, which every machine has. */
const NET = virtioSlot(1).guestAddr;
/** The VMM makes it, and it goes with the VMM. */
const TAP = `pdkn${Deno.pid}`;

const ignore = Deno.uid() !== 0 || !exists("/dev/kvm") || !exists("/dev/net/tun");
const suffix = ignore ? " (skipped: needs root, /dev/kvm and /dev/net/tun)" : "";

/** Four bytes of `struct virtio_net_config`: the address's last two, and the status, of which bit 0 is the link. */
const STATUS_WORD = NET + abi.VIRTIO_MMIO_CONFIG + 4;
const LINK_BIT = [0x00, 0x00, 0x01, 0x00];
/** Reads the status again and again until the link is up, or down: 1: mov eax, [status]; test eax, bit; jcc 1b */
const untilLink = (up: boolean): number[] => [
  ...asm.load(STATUS_WORD),
  ...[0xa9, ...LINK_BIT, up ? 0x74 : 0x75, 0xf2],
];
/** Says whether queue `index` exists, by the low byte of its largest size: 0 if not, and for a size of 256. */
const saySize = (index: number): number[] => [
  ...asm.store(NET + abi.VIRTIO_MMIO_QUEUE_SEL, index, 4),
  ...asm.load(NET + abi.VIRTIO_MMIO_QUEUE_NUM_MAX),
  ...asm.outAl(SERIAL),
];

function netTest(
  name: string,
  code: readonly (readonly number[])[],
  cpus: number,
  test: (vmm: TestVmm) => Promise<void>,
): void {
  Deno.test({
    name: `${name}${suffix}`,
    ignore,
    async fn(): Promise<void> {
      const kernelPath = await Deno.makeTempFile({ prefix: "paddock-guest-", suffix: ".elf" });
      try {
        await Deno.writeFile(kernelPath, elfOf(Uint8Array.from(code.flat())));
        await using vmm = new TestVmm();
        await vmm.start({ kernelPath, cpus, net: { tap: TAP } });
        await test(vmm);
      } finally {
        await Deno.remove(kernelPath);
      }
      equal(exists(`/sys/class/net/${TAP}`), false);
    },
  });
}

netTest(
  "a guest sees its cable pulled out and plugged in again, by requests that come at any time",
  [
    untilLink(false),
    asm.outByte(SERIAL, "d".charCodeAt(0)),
    untilLink(true),
    asm.outByte(SERIAL, "u".charCodeAt(0)),
    asm.outByte(POWER, 1),
  ],
  1,
  async (vmm) => {
    await vmm.until("started");
    await vmm.send({ type: "link", up: true });
    await vmm.send({ type: "link", up: false });
    await vmm.untilConsole("d", 20_000);
    await vmm.send({ type: "link", up: true });
    equal((await vmm.until("stopped", 20_000)).reason, "poweroff");
    equal(vmm.console, "du");
  },
);

for (const [cpus, control] of [[1, 2], [4, 8], [20, 32]] as const) {
  const has = cpus === 1
    ? "a pair of queues and no other"
    : `${control / 2} pairs of queues and one for control`;
  netTest(
    `an interface has ${has}, in a guest with ${cpus} vCPUs`,
    [saySize(control), saySize(control + 1), asm.outByte(POWER, 1)],
    cpus,
    async (vmm) => {
      equal((await vmm.until("stopped", 30_000)).reason, "poweroff");
      equal(vmm.console, cpus === 1 ? "\0\0" : "\x10\0");
    },
  );
}

netTest("a link that is neither up nor down is an error of the caller's", [asm.spin], 1, async (vmm) => {
  await vmm.until("started");
  await vmm.send({ type: "link", up: "yes" } as unknown as VmmRequest);
  match((await vmm.until("failed")).message, /Cannot have a link that is yes/);
  equal((await vmm.status).code, VMM_EXIT.config);
});
