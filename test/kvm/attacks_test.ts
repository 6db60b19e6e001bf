import { equal, ok } from "node:assert/strict";
import { VIRTIO_MMIO_ADDR, VIRTIO_MMIO_BYTES } from "../../src/machine/layout.ts";
import * as abi from "../../src/virtio/abi.ts";
import { exists, run } from "../support/command.ts";
import { asm, elfOf } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";

const ignore = !exists("/dev/kvm");
const MIB = 1024 * 1024;
const ATTACK_MS = 500;
/** Longest start of a neighbour, by the side of an attack that has both cores of a small machine busy. */
const NEIGHBOUR_LIMIT_MS = 10_000;
const GROWTH_LIMIT_KIB = 64 * 1024;
const LOG_LIMIT_BYTES = 64 * 1024;
const DESC = 0x20_0000;
const AVAIL = 0x20_1000;
const USED = 0x20_2000;
const DATA = 0x20_4000;
const INDIRECT = 0x20_3000;
const SERIAL = 0x3f8;

/** devices in their order: disk, rng, vsock */
const register = (device: number, offset: number): number =>
  VIRTIO_MMIO_ADDR + device * VIRTIO_MMIO_BYTES + offset;
const write = (device: number, offset: number, value: number): number[] =>
  asm.store(register(device, offset), value, 4);
const descriptor = (
  table: number,
  index: number,
  addr: number,
  len: number,
  flags: number,
  next: number,
): number[] => [
  ...asm.store(table + index * 16, addr, 4),
  ...asm.store(table + index * 16 + 4, 0, 4),
  ...asm.store(table + index * 16 + 8, len, 4),
  ...asm.store(table + index * 16 + 12, flags | (next << 16), 4),
];

/** A driver's start: features, one queue in the rings above, DRIVER_OK. */
function setUp(device: number, queue = 0): number[] {
  const steps: [number, number][] = [
    [abi.VIRTIO_MMIO_STATUS, 0],
    [abi.VIRTIO_MMIO_STATUS, 1],
    [abi.VIRTIO_MMIO_STATUS, 3],
    [abi.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1],
    [abi.VIRTIO_MMIO_DRIVER_FEATURES, 1],
    [abi.VIRTIO_MMIO_STATUS, 11],
    [abi.VIRTIO_MMIO_QUEUE_SEL, queue],
    [abi.VIRTIO_MMIO_QUEUE_NUM, 64],
    [abi.VIRTIO_MMIO_QUEUE_DESC_LOW, DESC],
    [abi.VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL],
    [abi.VIRTIO_MMIO_QUEUE_USED_LOW, USED],
    [abi.VIRTIO_MMIO_QUEUE_READY, 1],
    [abi.VIRTIO_MMIO_STATUS, 15],
  ];
  return steps.flatMap(([offset, value]) => write(device, offset, value));
}

const kick = (device: number, queue = 0): number[] => write(device, abi.VIRTIO_MMIO_QUEUE_NOTIFY, queue);
/** One more chain, as far as the index says; what the ring holds is all zeros: head 0. */
const offer = asm.increment16(AVAIL + 2);

const ATTACKS: Readonly<Record<string, number[]>> = {
  "resets without end": asm.forever([
    ...write(0, abi.VIRTIO_MMIO_STATUS, 0),
    ...write(0, abi.VIRTIO_MMIO_STATUS, 1),
    ...write(2, abi.VIRTIO_MMIO_STATUS, 0),
  ]),
  "set-up and reset without end": asm.forever(setUp(0)),
  "kicks to queues that are not ready, and to none": asm.forever([...kick(0), ...kick(1), ...kick(2, 7)]),
  "reads from the disk without end, each with an interrupt": [
    ...descriptor(DESC, 0, DATA, 16, 1, 1),
    ...descriptor(DESC, 1, DATA + 0x1000, 0x1000, 3, 2),
    ...descriptor(DESC, 2, DATA + 0x100, 1, 2, 0),
    ...setUp(0),
    ...asm.forever([...offer, ...kick(0)]),
  ],
  "chains of 4 GiB": [
    ...descriptor(DESC, 0, DATA, 16, 1, 1),
    ...descriptor(DESC, 1, DATA, 0xffff_ffff, 3, 2),
    ...descriptor(DESC, 2, DATA, 0xffff_ffff, 2, 0),
    ...asm.forever([...setUp(0), ...offer, ...kick(0)]),
  ],
  "indirect tables that name themselves": [
    ...descriptor(DESC, 0, INDIRECT, 0x1000, 4, 0),
    ...descriptor(INDIRECT, 0, INDIRECT, 0x1000, 4, 0),
    ...asm.forever([...setUp(0), ...offer, ...kick(0)]),
  ],
  "the longest read again and again, over the same memory": [
    ...descriptor(DESC, 0, INDIRECT, 16 * 65, 4, 0),
    ...descriptor(INDIRECT, 0, DATA, 16, 1, 1),
    ...Array.from({ length: 63 }, (_, index) => descriptor(INDIRECT, index + 1, MIB * 4, MIB, 3, index + 2))
      .flat(),
    ...descriptor(INDIRECT, 64, DATA + 0x100, 1, 2, 0),
    ...setUp(0),
    ...asm.forever([...offer, ...kick(0)]),
  ],
  "descriptors that change while they are used": [
    ...descriptor(DESC, 0, DATA, 16, 1, 1),
    ...descriptor(DESC, 1, DATA + 0x1000, 0x1000, 3, 2),
    ...descriptor(DESC, 2, DATA + 0x100, 1, 2, 0),
    ...setUp(0),
    ...asm.forever([
      ...offer,
      ...kick(0),
      ...asm.store(DESC + 16, 0xffff_f000, 4),
      ...asm.store(DATA, 0xffff_ffff, 4),
      ...asm.store(DESC + 16, DATA + 0x1000, 4),
      ...asm.store(DATA, 0, 4),
    ]),
  ],
  "connections over vsock that are never answered": [
    // A request packet (virtio 1.2 §5.10.6): from port 1 to port 1025 of cid 2
    ...descriptor(DESC, 0, DATA, 44, 1, 0),
    ...asm.store(DATA, 3, 4),
    ...asm.store(DATA + 8, 2, 4),
    ...asm.store(DATA + 16, 1, 4),
    ...asm.store(DATA + 20, 1025, 4),
    ...asm.store(DATA + 28, 1 | (1 << 16), 4),
    ...setUp(2, 1),
    ...asm.forever([...offer, ...asm.increment16(DATA + 16), ...kick(2, 1)]),
  ],
  "writes to the console without end": asm.forever(asm.outByte(SERIAL, 0x41)),
  "accesses to ports and addresses where nothing is": asm.forever([
    ...asm.outByte(0x9999, 1),
    ...asm.inByte(0x9998),
    ...asm.store(0xe000_0000, 1, 4),
    ...asm.load(0xe000_0010),
  ]),
};

/** Resident memory beyond the guest's own, in KiB. */
function ownKib(pid: number): number {
  const status = run("cat", [`/proc/${pid}/status`]);
  return Number(/RssAnon:\s+(\d+) kB/.exec(status)?.[1]);
}

/** How long a neighbour takes from its start to its guest's first output, in `ms`. */
async function neighbourStartMs(kernelPath: string): Promise<number> {
  const started = performance.now();
  await using vmm = new TestVmm();
  await vmm.start({ kernelPath });
  await vmm.untilConsole("B");
  return performance.now() - started;
}

for (const [name, code] of Object.entries(ATTACKS)) {
  Deno.test({
    name: `a guest's attack harms nobody: ${name}`,
    ignore,
    async fn(): Promise<void> {
      const folder = await Deno.makeTempDir({ prefix: "paddock-attack-" });
      try {
        const [attacker, neighbour, disk] = ["attacker", "neighbour", "disk"].map((file) =>
          `${folder}/${file}`
        );
        await Deno.writeFile(attacker ?? "", elfOf(Uint8Array.from(code)));
        await Deno.writeFile(
          neighbour ?? "",
          elfOf(Uint8Array.from([...asm.outByte(SERIAL, 0x42), ...asm.spin])),
        );
        await Deno.writeFile(disk ?? "", new Uint8Array(MIB));
        await Deno.truncate(disk ?? "", 128 * MIB);
        await using vmm = new TestVmm();
        await vmm.start({
          kernelPath: attacker ?? "",
          disks: [{ path: disk ?? "", format: "raw" }],
          vsock: { cid: 3, socketPath: `${folder}/v.sock` },
        });
        await vmm.until("started");
        const before = ownKib(vmm.pid);
        await new Promise((resolve) => setTimeout(resolve, ATTACK_MS));
        const neighbourMs = await neighbourStartMs(neighbour ?? "");
        ok(neighbourMs < NEIGHBOUR_LIMIT_MS, `a neighbour needed ${neighbourMs} ms`);
        const growth = ownKib(vmm.pid) - before;
        ok(growth < GROWTH_LIMIT_KIB, `the monitor grew by ${growth} KiB`);
        await vmm.send({ type: "stop", graceMs: 0 });
        const { reason, exits } = await vmm.until("stopped");
        equal(reason, "killed");
        // Its exits show that the attack took place: what goes to an eventfd needs a set-up first.
        const count = Object.values(exits).reduce((sum, of) => sum + of, 0);
        ok(count > (name.startsWith("kicks") ? 100 : 10), `${count} exits`);
        ok(vmm.log.length < LOG_LIMIT_BYTES, `${vmm.log.length} bytes of log`);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

/** CPU time that a process has used, in `ms`. */
function cpuMs(pid: number): number {
  // proc(5): fields 14 and 15 count hundredths of a second; the name in field 2 may hold anything
  const fields = run("cat", [`/proc/${pid}/stat`]).split(") ")[1]?.split(" ") ?? [];
  return 10 * (Number(fields[11]) + Number(fields[12]));
}

Deno.test({
  name: "packets that a guest never takes cost its monitor neither memory nor time",
  ignore: ignore || Deno.uid() !== 0,
  async fn(): Promise<void> {
    const folder = await Deno.makeTempDir({ prefix: "paddock-attack-" });
    const namespace = `pdk-rx-${Deno.pid}`;
    const inside = (...args: string[]): string => run("ip", ["netns", "exec", namespace, ...args]);
    run("ip", ["netns", "add", namespace]);
    try {
      inside("ip", "tuntap", "add", "tap7", "mode", "tap", "vnet_hdr");
      inside("ip", "addr", "add", "172.30.0.1/30", "dev", "tap7");
      inside("ip", "link", "set", "tap7", "up");
      inside(..."ip neigh add 172.30.0.2 lladdr 06:00:ac:1e:00:02 dev tap7 nud permanent".split(" "));
      // The receive queue is ready and stays empty.
      const code = [...setUp(0), ...asm.outByte(SERIAL, 0x43), ...asm.hlt, ...asm.spin];
      await Deno.writeFile(`${folder}/kernel`, elfOf(Uint8Array.from(code)));
      await using vmm = new TestVmm(namespace);
      await vmm.start({ kernelPath: `${folder}/kernel`, net: { tap: "tap7" } });
      await vmm.untilConsole("C");
      const before = ownKib(vmm.pid);
      inside("sh", "-c", "head -c 50000000 /dev/zero | socat -u -b 1400 - UDP-SENDTO:172.30.0.2:9");
      const growth = ownKib(vmm.pid) - before;
      ok(growth < GROWTH_LIMIT_KIB, `the monitor grew by ${growth} KiB`);
      const dropped = Number(inside("cat", "/sys/class/net/tap7/statistics/tx_dropped"));
      ok(dropped > 10_000, `${dropped} packets were dropped`);
      const busy = cpuMs(vmm.pid);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      ok(cpuMs(vmm.pid) - busy < 300, `${cpuMs(vmm.pid) - busy} ms of CPU time in a second`);
    } finally {
      run("ip", ["netns", "del", namespace]);
      await Deno.remove(folder, { recursive: true });
    }
  },
});
