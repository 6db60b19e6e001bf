/**
 * The keys of the raw console: Ctrl-A Ctrl-C (or Ctrl-A x) quits, Ctrl-A Ctrl-A sends one Ctrl-A, everything
 * else goes to the guest.
 *
 * @module
 */

const CTRL_A = 0x01;
const CTRL_C = 0x03;
const LOWER_X = 0x78;

/** What a piece of typing amounts to. */
export interface KeyResult {
  /** bytes for the guest */
  readonly toGuest: Uint8Array;
  /** the user wants to leave */
  readonly quit: boolean;
}

/** Follows what is typed across pieces. */
export class ConsoleKeys {
  #afterPrefix = false;

  /** Takes typed bytes. */
  push(typed: Uint8Array): KeyResult {
    const toGuest: number[] = [];
    for (const byte of typed) {
      if (this.#afterPrefix) {
        this.#afterPrefix = false;
        if (byte === CTRL_C || byte === LOWER_X) return { toGuest: Uint8Array.from(toGuest), quit: true };
        if (byte !== CTRL_A) toGuest.push(CTRL_A);
        toGuest.push(byte);
      } else if (byte === CTRL_A) this.#afterPrefix = true;
      else toGuest.push(byte);
    }
    return { toGuest: Uint8Array.from(toGuest), quit: false };
  }
}
