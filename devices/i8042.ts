/**
 * The keyboard controller at ports 0x60 to 0x64 without a keyboard: its reset line, and the few commands by which a
 * driver finds out that there is a controller (Intel 8042 as in the IBM PC AT). Without the answers Linux waits half a
 * second for them, with ten thousand exits.
 *
 * @module
 */

import type { BusDevice } from "../src/bus/bus.ts";

const DATA_PORT = 0;
const COMMAND_PORT = 4;
const STATUS_OUTPUT_FULL = 1;
/** power-on self-test passed */
const STATUS_SYSTEM = 4;

const COMMAND_READ_CONTROL = 0x20;
const COMMAND_WRITE_CONTROL = 0x60;
const COMMAND_SELF_TEST = 0xaa;
const COMMAND_TEST_KEYBOARD = 0xab;
/** "pulse output line 0": resets the CPU */
const COMMAND_RESET = 0xfe;
const SELF_TEST_PASSED = 0x55;
const KEYBOARD_PORT_FINE = 0x00;

/** A keyboard controller without a keyboard. */
export class I8042 implements BusDevice {
  readonly #reset: () => void;
  #control = 0;
  /** what the next read of the data port gives */
  #output: number | undefined;
  #controlFollows = false;

  /** `reset` is called when the guest pulls the reset line. */
  constructor(reset: () => void) {
    this.#reset = reset;
  }

  read(offset: number): number {
    if (offset === COMMAND_PORT) return STATUS_SYSTEM | (this.#output === undefined ? 0 : STATUS_OUTPUT_FULL);
    if (offset !== DATA_PORT) return 0;
    const output = this.#output ?? 0;
    this.#output = undefined;
    return output;
  }

  write(offset: number, _size: number, value: number): void {
    const byte = value & 0xff;
    if (offset === COMMAND_PORT) return this.#command(byte);
    if (offset === DATA_PORT && this.#controlFollows) this.#control = byte;
    this.#controlFollows = false;
  }

  #command(command: number): void {
    this.#controlFollows = command === COMMAND_WRITE_CONTROL;
    switch (command) {
      case COMMAND_READ_CONTROL:
        this.#output = this.#control;
        return;
      case COMMAND_SELF_TEST:
        this.#output = SELF_TEST_PASSED;
        return;
      case COMMAND_TEST_KEYBOARD:
        this.#output = KEYBOARD_PORT_FINE;
        return;
      case COMMAND_RESET:
        return this.#reset();
    }
  }
}
