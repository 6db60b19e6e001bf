import { deepEqual, equal } from "node:assert/strict";
import { ACPI_POWER_WORDS, AcpiPower } from "../../devices/acpi_power.ts";

const STATUS = 0;
const ENABLE = 2;
const CONTROL = 4;
const BUTTON = 1 << 8;

/** The registers as one vCPU has them, and what they did. */
function createPower(): { power: AcpiPower; seen: string[]; onOtherThread: AcpiPower } {
  const state = new Int32Array(new SharedArrayBuffer(4 * ACPI_POWER_WORDS));
  const seen: string[] = [];
  const sci = { trigger: () => void seen.push("interrupt") };
  const power = new AcpiPower(state, sci, () => void seen.push("off"));
  return { power, seen, onOtherThread: new AcpiPower(state, sci, () => {}) };
}

Deno.test("AcpiPower.press() interrupts a guest that has the button enabled, until it is acknowledged", () => {
  const { power, seen, onOtherThread } = createPower();
  power.write(ENABLE, 2, BUTTON);
  onOtherThread.press();
  deepEqual(seen, ["interrupt"]);
  equal(power.read(STATUS, 2), BUTTON);
  power.write(STATUS, 2, BUTTON);
  equal(power.read(STATUS, 2), 0);
  deepEqual(seen, ["interrupt"]);
});

Deno.test("AcpiPower.press() without the button enabled waits for that", () => {
  const { power, seen } = createPower();
  power.press();
  deepEqual(seen, []);
  power.write(ENABLE, 2, BUTTON);
  deepEqual(seen, ["interrupt"]);
});

Deno.test("AcpiPower acknowledges only the bits that are written", () => {
  const { power } = createPower();
  power.press();
  power.write(STATUS, 2, 0xffff & ~BUTTON);
  equal(power.read(STATUS, 2), BUTTON);
});

Deno.test("AcpiPower's registers can be accessed by bytes, words and double words", () => {
  const { power, seen } = createPower();
  power.write(ENABLE + 1, 1, BUTTON >> 8);
  power.press();
  equal(power.read(STATUS, 4), BUTTON * 2 ** 16 + BUTTON);
  power.write(STATUS, 4, BUTTON);
  equal(power.read(STATUS, 4), 0);
  power.write(CONTROL + 1, 1, (5 << 2) | (1 << 5));
  deepEqual(seen, ["interrupt", "off"]);
});

Deno.test("AcpiPower is in ACPI mode, and keeps no bit that it does not know", () => {
  const { power } = createPower();
  power.write(ENABLE, 2, 0xffff);
  equal(power.read(ENABLE, 2), 0x0721);
  power.write(CONTROL, 2, 0x1c00);
  equal(power.read(CONTROL, 2), 1);
});

Deno.test("AcpiPower switches off by the sleep type of S5 with its enable bit, and by nothing else", () => {
  const { power, seen } = createPower();
  for (let type = 0; type < 8; type++) {
    power.write(CONTROL, 2, type << 10);
    if (type !== 5) power.write(CONTROL, 2, (type << 10) | (1 << 13));
  }
  deepEqual(seen, []);
  power.write(CONTROL, 2, (5 << 10) | (1 << 13));
  deepEqual(seen, ["off"]);
});
