/**
 * The CMOS clock at ports 0x70 and 0x71, as far as a guest reads the time from it (MC146818A data sheet). The index
 * register is one byte; writes to data registers are ignored. Numbers are in BCD: Linux on x86 takes them for that even
 * where register B says that they are binary.
 *
 * @module
 */

import type { BusDevice } from "../src/bus/bus.ts";

/** 24-hour mode */
const REGISTER_B = 0x02;
/** battery good */
const REGISTER_D = 0x80;

/** A read-only clock. */
export class Rtc implements BusDevice {
  readonly #now: () => Date;
  #index = 0;

  /** `now` gives the time to show, in UTC. */
  constructor(now: () => Date) {
    this.#now = now;
  }

  read(offset: number): number {
    if (offset !== 1) return this.#index;
    const now = this.#now();
    switch (this.#index) {
      case 0x00:
        return bcd(now.getUTCSeconds());
      case 0x02:
        return bcd(now.getUTCMinutes());
      case 0x04:
        return bcd(now.getUTCHours());
      case 0x06:
        return bcd(now.getUTCDay() + 1);
      case 0x07:
        return bcd(now.getUTCDate());
      case 0x08:
        return bcd(now.getUTCMonth() + 1);
      case 0x09:
        return bcd(now.getUTCFullYear() % 100);
      case 0x32:
        return bcd(Math.floor(now.getUTCFullYear() / 100));
      case 0x0b:
        return REGISTER_B;
      case 0x0d:
        return REGISTER_D;
      // Register A included: "update in progress" never shows, so nobody polls for its end.
      default:
        return 0;
    }
  }

  write(offset: number, _size: number, value: number): void {
    // Bit 7 of port 0x70 masks NMIs, which nobody sends here.
    if (offset === 0) this.#index = value & 0x7f;
  }
}

/** A number below 100 with its two digits in four bits each. */
function bcd(value: number): number {
  return Math.floor(value / 10) * 16 + value % 10;
}
