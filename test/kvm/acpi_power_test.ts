import { equal, ok } from "node:assert/strict";
import { PM1_CONTROL_PORT, PM1_EVENT_PORT, SLEEP_TYPE_S5 } from "../../devices/acpi_power.ts";
import { exists } from "../support/command.ts";
import type { VmConfig } from "../../src/vmm/protocol.ts";
import { asm, elfOf } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";

const SERIAL = 0x3f8;
const noKvm = !exists("/dev/kvm");
const enableButton = asm.outByte(PM1_EVENT_PORT + 3, 1);
const acknowledge = asm.outByte(PM1_EVENT_PORT + 1, 1);
const softOff = asm.outByte(PM1_CONTROL_PORT + 1, (SLEEP_TYPE_S5 << 2) | (1 << 5));
/** reads the upper status byte until the button's bit is set: in al, dx; test al, 1; jz */
const waitForButton = [...asm.inByte(PM1_EVENT_PORT + 1), 0xa8, 0x01, 0x74, 0xfb];

/** A test with a VMM process and a guest of these instructions; needs any /dev/kvm. */
function guestTest(
  name: string,
  code: readonly (readonly number[])[],
  test: (vmm: TestVmm) => Promise<void>,
  config: Partial<VmConfig> = {},
): void {
  Deno.test({
    name: noKvm ? `${name} (skipped: no /dev/kvm)` : name,
    ignore: noKvm,
    async fn(): Promise<void> {
      const kernelPath = Deno.makeTempFileSync({ prefix: "paddock-guest-", suffix: ".elf" });
      try {
        Deno.writeFileSync(kernelPath, elfOf(Uint8Array.from(code.flat())));
        await using vmm = new TestVmm();
        await vmm.start({ kernelPath, ...config });
        await test(vmm);
      } finally {
        Deno.removeSync(kernelPath);
      }
    },
  });
}

guestTest("a guest that enters ACPI's S5 has powered off", [softOff, asm.hlt], async (vmm) => {
  equal((await vmm.until("stopped")).reason, "poweroff");
});

guestTest(
  "stop presses ACPI's power button",
  [enableButton, asm.outByte(SERIAL, 0x72), waitForButton, acknowledge, softOff, asm.hlt],
  async (vmm) => {
    await vmm.until("started");
    await vmm.send({ type: "stop", graceMs: 10_000 });
    equal((await vmm.until("stopped")).reason, "poweroff");
  },
);

guestTest(
  "a guest that was not ready for the first press of the button hears of a later one",
  [waitForButton, acknowledge, waitForButton, acknowledge, softOff, asm.hlt],
  async (vmm) => {
    await vmm.until("started");
    await vmm.send({ type: "stop", graceMs: 10_000 });
    equal((await vmm.until("stopped")).reason, "poweroff");
  },
);

guestTest(
  "a guest that acknowledges the button and goes on is killed after the grace time",
  [waitForButton, acknowledge, asm.spin],
  async (vmm) => {
    await vmm.until("started");
    const before = performance.now();
    await vmm.send({ type: "stop", graceMs: 500 });
    equal((await vmm.until("stopped")).reason, "killed");
    ok(performance.now() - before >= 500);
  },
);

guestTest(
  "SIGTERM presses the button too, and the guest has as long as the configuration says",
  [waitForButton, acknowledge, asm.spin],
  async (vmm) => {
    await vmm.until("started");
    const before = performance.now();
    vmm.kill("SIGTERM");
    equal((await vmm.until("stopped")).reason, "killed");
    const ms = performance.now() - before;
    ok(ms >= 700 && ms < 5000, `${ms} ms`);
  },
  { graceMs: 700 },
);
