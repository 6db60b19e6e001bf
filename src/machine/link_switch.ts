/**
 * Whether the cable of the network interface is plugged in: a shared word that main sets and the io thread reads.
 *
 * @module
 */

import { UNPLUGGED_WORD } from "./worker_protocol.ts";

/** One end of the switch. */
export class LinkSwitch {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #ring: () => void;

  /** `shared` are the threads' shared words; `ring` tells the other end that there is something new. */
  constructor(shared: SharedArrayBuffer, ring: () => void) {
    this.#words = new Int32Array(shared);
    this.#ring = ring;
  }

  /** the cable is plugged in, as it is at the start */
  get up(): boolean {
    return Atomics.load(this.#words, UNPLUGGED_WORD) === 0;
  }

  /** Plugs the cable in or out. */
  set(up: boolean): void {
    Atomics.store(this.#words, UNPLUGGED_WORD, up ? 0 : 1);
    this.#ring();
  }
}
