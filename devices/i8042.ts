/**
 * The keyboard controller at ports 0x60 to 0x64, as far as a PC without a keyboard needs it: the reset line, and
 * answers that make a driver's probe end at once.
 *
 * @module
 */

import type { BusDevice } from "../src/bus/bus.ts";

const STATUS_PORT = 4;
/** "pulse output line 0": resets the CPU */
const COMMAND_RESET = 0xfe;

/** A keyboard controller without a keyboard. */
export class I8042 implements BusDevice {
  readonly #reset: () => void;

  /** `reset` is called when the guest pulls the reset line. */
  constructor(reset: () => void) {
    this.#reset = reset;
  }

  read(): number {
    // Status: no input waiting, ready for a command. Data: nothing.
    return 0;
  }

  write(offset: number, _size: number, value: number): void {
    if (offset === STATUS_PORT && (value & 0xff) === COMMAND_RESET) this.#reset();
  }
}
