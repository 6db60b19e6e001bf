/**
 * The interrupt status word of one device: shared by the thread that runs the device and the vCPUs, which read and
 * acknowledge it for every interrupt (virtio 1.2 §4.2.2, INTERRUPT_STATUS and INTERRUPT_ACK).
 *
 * @module
 */

import type { IrqLine } from "../bus/irq_line.ts";

/** Pending interrupt causes of one device. */
export class InterruptStatus {
  readonly #words: Int32Array;
  readonly #index: number;
  readonly #irq: IrqLine;

  /** The word at `index` of `words`, which may be shared memory. */
  constructor(words: Int32Array, index: number, irq: IrqLine) {
    this.#words = words;
    this.#index = index;
    this.#irq = irq;
  }

  /** Adds a cause and interrupts the guest. */
  raise(cause: number): void {
    Atomics.or(this.#words, this.#index, cause);
    this.#irq.trigger();
  }

  /** Forgets all causes. */
  clear(): void {
    Atomics.store(this.#words, this.#index, 0);
  }
}
