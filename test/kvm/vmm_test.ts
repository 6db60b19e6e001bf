import { deepEqual, equal, match, ok } from "node:assert/strict";
import { exists } from "../support/command.ts";
import { asm, CODE_ADDR, elfOf } from "../support/tiny_guest.ts";
import { BOOT_MARKER_PORT } from "../../devices/boot_marker.ts";
import { TestVmm } from "../support/vmm.ts";

const SERIAL = 0x3f8;
const POWER = 0x300;
const VIRTIO = 0xd000_0000;
const noKvm = !exists("/dev/kvm");
const powerOff = asm.outByte(POWER, 1);

function kernel(...instructions: readonly (readonly number[])[]): string {
  const path = Deno.makeTempFileSync({ prefix: "paddock-guest-", suffix: ".elf" });
  Deno.writeFileSync(path, elfOf(Uint8Array.from(instructions.flat())));
  return path;
}

/** A test with a VMM process and a guest of these instructions; needs any /dev/kvm. */
function vmTest(
  name: string,
  code: readonly (readonly number[])[],
  test: (vmm: TestVmm, path: string) => Promise<void>,
): void {
  Deno.test({
    name: noKvm ? `${name} (skipped: no /dev/kvm)` : name,
    ignore: noKvm,
    async fn(): Promise<void> {
      const path = kernel(...code);
      try {
        await using vmm = new TestVmm();
        await test(vmm, path);
      } finally {
        Deno.removeSync(path);
      }
    },
  });
}

vmTest("a guest writes to the serial port and powers off", [
  asm.outByte(SERIAL, 0x68),
  asm.outByte(SERIAL, 0x69),
  powerOff,
], async (vmm, kernelPath) => {
  await vmm.start({ kernelPath });
  const stopped = await vmm.until("stopped");
  equal(stopped.reason, "poweroff");
  equal(vmm.console, "hi");
  deepEqual(stopped.exits, { "port 0x3f8": 2, "port 0x300": 1 });
  equal((await vmm.status).code, 0);
});

const text = new TextEncoder().encode("five!");
const stringCode = [...asm.outString(SERIAL, CODE_ADDR + 64, 5), ...powerOff];
vmTest("a guest's boot markers make the times of its boot whole", [
  asm.outByte(BOOT_MARKER_PORT, 1),
  asm.outByte(BOOT_MARKER_PORT, 2),
  asm.outByte(BOOT_MARKER_PORT, 2),
  asm.spin,
], async (vmm, kernelPath) => {
  await vmm.start({ kernelPath });
  const { timings } = await vmm.until("booted");
  const { kernelLoadedMs, firstInstructionMs, initMs = 0, readyMs = 0 } = timings;
  ok(firstInstructionMs > kernelLoadedMs);
  // The guest may be faster than main learns that it runs.
  ok(initMs > kernelLoadedMs && initMs < firstInstructionMs + 1000, JSON.stringify(timings));
  ok(readyMs >= initMs && readyMs < initMs + 1000, JSON.stringify(timings));
});

vmTest("a string instruction prints all of its bytes", [[
  ...stringCode,
  ...Array(64 - stringCode.length).fill(0x90),
  ...text,
]], async (vmm, kernelPath) => {
  await vmm.start({ kernelPath });
  await vmm.until("stopped");
  equal(vmm.console, "five!");
});

vmTest("a guest without devices reads ones from ports and MMIO where nobody is", [
  asm.inByte(0x1234),
  asm.outAl(SERIAL),
  asm.load(0xc800_0000),
  asm.outAl(SERIAL),
  powerOff,
], async (vmm, kernelPath) => {
  await vmm.start({ kernelPath });
  await vmm.until("stopped");
  // 0xff is no UTF-8: each byte shows as the replacement character
  equal(vmm.console, "\ufffd\ufffd");
});

vmTest("virtio registers answer 32-bit accesses and take other widths without harm", [
  asm.load(VIRTIO),
  asm.outAl(SERIAL), // "v" of "virt"
  asm.store(VIRTIO + 0x70, 1, 1),
  asm.store(VIRTIO + 0x70, 1, 2),
  asm.storeTwice(VIRTIO + 0x70, 1),
  asm.load(VIRTIO + 0x70),
  asm.outAl(SERIAL), // status is still 0
  asm.store(VIRTIO + 0x70, 1, 4),
  asm.load(VIRTIO + 0x70),
  asm.outAl(SERIAL), // ACKNOWLEDGE
  powerOff,
], async (vmm, kernelPath) => {
  await vmm.start({ kernelPath });
  await vmm.until("stopped");
  equal(vmm.console, "v\0\x01");
});

vmTest(
  "a reset through the keyboard controller ends the VM as a reset",
  [asm.outByte(0x64, 0xfe), asm.hlt],
  async (vmm, kernelPath) => {
    await vmm.start({ kernelPath });
    equal((await vmm.until("stopped")).reason, "reset");
  },
);

vmTest("a guest that spins is killed after the grace time", [asm.spin], async (vmm, kernelPath) => {
  await vmm.start({ kernelPath });
  await vmm.until("started");
  const before = performance.now();
  await vmm.send({ type: "stop", graceMs: 200 });
  equal((await vmm.until("stopped")).reason, "killed");
  ok(performance.now() - before < 2000);
  equal((await vmm.status).code, 0);
});

vmTest(
  "a halted guest is killed too, by SIGTERM to the process",
  [asm.hlt, asm.spin],
  async (vmm, kernelPath) => {
    await vmm.start({ kernelPath });
    await vmm.until("started");
    await vmm.send({ type: "stop", graceMs: 0 });
    vmm.kill("SIGTERM");
    equal((await vmm.until("stopped")).reason, "killed");
  },
);

vmTest("the end of stdin ends the process and its guest", [asm.spin], async (vmm, kernelPath) => {
  await vmm.start({ kernelPath });
  await vmm.until("started");
  await vmm.hangUp();
  equal((await vmm.status).code, 0);
});

vmTest("what is typed reaches the guest's serial port", [
  // 1: wait for data ready, read it, write it back, until it is a dot
  [0xba, 0xfd, 0x03, 0x00, 0x00, 0xec, 0xa8, 0x01, 0x74, 0xf6], // mov edx, 0x3fd; in al, dx; test al, 1; jz 1
  [0xba, 0xf8, 0x03, 0x00, 0x00, 0xec, 0xee], // mov edx, 0x3f8; in al, dx; out dx, al
  [0x3c, 0x2e, 0x75, 0xeb], // cmp al, "."; jne 1
  powerOff,
], async (vmm, kernelPath) => {
  await vmm.start({ kernelPath });
  await vmm.send({ type: "console", data: new TextEncoder().encode("typed.").toBase64() });
  await vmm.until("stopped");
  equal(vmm.console, "typed.");
});

Deno.test("a VMM names what is wrong with a configuration, and exits with 2", async () => {
  const cases = [
    [{ kernelPath: "/nonexistent/kernel" }, /Cannot open "\/nonexistent\/kernel": ENOENT/],
    [{ kernelPath: "/etc/passwd" }, /neither an ELF kernel nor a bzImage/],
    [{ kernelPath: "/x", memoryMib: 1 }, /memoryMib 1/],
    [{ kernelPath: "/x", cpus: 99 }, /cpus 99/],
    [{ kernelPath: "/x", cmdline: "x".repeat(3000) }, /command line/],
  ] as const;
  for (const [config, message] of cases) {
    await using vmm = new TestVmm();
    await vmm.start(config);
    const failed = await vmm.until("failed");
    match(failed.message, message);
    equal((await vmm.status).code, noKvm && !("memoryMib" in config) ? 3 : 2);
  }
});
