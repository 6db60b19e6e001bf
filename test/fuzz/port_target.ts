/**
 * The port devices, under any accesses of a guest.
 *
 * @module
 */

import { ACPI_POWER_WORDS, AcpiPower } from "../../devices/acpi_power.ts";
import { I8042 } from "../../devices/i8042.ts";
import { Power } from "../../devices/power.ts";
import { Rtc } from "../../devices/rtc.ts";
import { Serial } from "../../devices/serial.ts";
import type { BusDevice } from "../../src/bus/bus.ts";
import type { FuzzTarget } from "./fuzzer.ts";

/** serial, clock, keyboard controller, power port and ACPI registers: `[device, access, offset, value]` each */
export function portTarget(): FuzzTarget {
  const serialShared = new SharedArrayBuffer(Serial.sharedBytes);
  return {
    name: "ports",
    corpus: [
      Uint8Array.of(0, 1, 3, 0x80, 0, 1, 0, 1, 0, 1, 3, 3, 0, 1, 2, 7, 0, 1, 1, 3, 0, 0, 2, 0, 5, 0, 0, 65),
      Uint8Array.of(
        1,
        1,
        0,
        10,
        1,
        0,
        1,
        0,
        1,
        1,
        0,
        0,
        1,
        0,
        1,
        0,
        2,
        1,
        4,
        0xaa,
        2,
        0,
        0,
        0,
        2,
        1,
        4,
        0xfe,
      ),
      Uint8Array.of(3, 1, 0, 1, 3, 0, 0, 0, 4, 1, 3, 1, 6, 0, 0, 0, 4, 0, 0, 0, 4, 1, 1, 1, 4, 1, 5, 0x34),
    ],
    run: (input) => {
      new Uint8Array(serialShared).fill(0);
      let irqs = 0;
      let ends = 0;
      const irq = { trigger: (): void => void irqs++ };
      const end = (): void => void ends++;
      const serial = new Serial(serialShared, irq, () => {});
      const acpiState = new Int32Array(new SharedArrayBuffer(ACPI_POWER_WORDS * 4));
      const acpi = new AcpiPower(acpiState, irq, end);
      const devices: BusDevice[] = [
        serial,
        new Rtc(() => new Date(0)),
        new I8042(end),
        new Power(end),
        acpi,
      ];
      let output = 0;
      for (let at = 0; at + 4 <= input.byteLength; at += 4) {
        const [device = 0, access = 0, offset = 0, value = 0] = input.subarray(at, at + 4);
        if (device % 8 === 5) serial.type(new Uint8Array(value * 64).fill(value));
        else if (device % 8 === 6) acpi.press();
        else if (device % 8 === 7) output += serial.drain().byteLength;
        else {
          const size = [1, 2, 4][access % 3] ?? 1;
          if (access % 2 === 1) devices[device % 8]?.write(offset % 8, size, value * 0x0101_0101);
          else {
            const read = devices[device % 8]?.read(offset % 8, size) ?? 0;
            if (!Number.isInteger(read) || read < 0) throw new Error(`read ${read}`);
          }
        }
      }
      if (irqs > input.byteLength * 4) throw new Error(`${irqs} interrupts`);
      return `${Math.min(irqs, 6)} ${Math.min(ends, 3)} ${Math.min(output, 3)}`;
    },
  };
}
