/**
 * The power port: the contract with the guest's kernel module (`guest-module/power`). The host raises the
 * interrupt to ask for an orderly power-off; the module writes 1 to the port when the guest is down.
 *
 * @module
 */

import type { BusDevice } from "../src/bus/bus.ts";

/** first I/O port */
export const POWER_PORT = 0x300;
/** interrupt that asks for a power-off */
export const POWER_IRQ = 5;

const POWER_OFF = 1;

/** The guest's way to switch itself off. */
export class Power implements BusDevice {
  readonly #powerOff: () => void;

  /** `powerOff` is called when the guest has shut down. */
  constructor(powerOff: () => void) {
    this.#powerOff = powerOff;
  }

  read(): number {
    return 0;
  }

  write(_offset: number, _size: number, value: number): void {
    if (value === POWER_OFF) this.#powerOff();
  }
}
