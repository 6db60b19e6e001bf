/**
 * A queue as a device uses it: chains in, chains back, interrupts when they are wanted.
 *
 * @module
 */

import { type DescriptorChain, QueueError } from "./descriptor_chain.ts";
import type { SplitQueue } from "./split_queue.ts";

/** A virtqueue together with its interrupt. */
export class DeviceQueue {
  readonly #queue: SplitQueue;
  readonly #interrupt: () => void;
  /** chains that {@linkcode drainLater} handed out and that are not given back */
  #outstanding = 0;

  constructor(queue: SplitQueue, interrupt: () => void) {
    this.#queue = queue;
    this.#interrupt = interrupt;
  }

  /** number of descriptors */
  get size(): number {
    return this.#queue.size;
  }

  /** See {@link SplitQueue.pop}. */
  pop(): DescriptorChain | undefined {
    return this.#queue.pop();
  }

  /** See {@link SplitQueue.undoPop}. */
  undoPop(): void {
    this.#queue.undoPop();
  }

  /** Gives a chain back; {@linkcode flush} tells the driver. */
  push(chain: DescriptorChain): void {
    this.#queue.push(chain, chain.writer.writtenBytes);
  }

  /** Interrupts the driver for what was pushed, if it wants that. */
  flush(): void {
    if (this.#queue.needsInterrupt()) this.#interrupt();
  }

  /** See {@link SplitQueue.enableNotify}. */
  enableNotify(): boolean {
    return this.#queue.enableNotify();
  }

  /**
   * Hands each available chain to `handle` and gives it back with what `handle` wrote, whatever happens in it.
   * At most one queue's worth a call, so that a driver which refills as fast as we drain cannot hold the thread.
   *
   * @returns whether chains are left
   */
  drain(handle: (chain: DescriptorChain) => void): boolean {
    return this.drainLater((chain, giveBack) => {
      handle(chain);
      giveBack();
    });
  }

  /**
   * Hands out available chains as {@linkcode drain} does, but each is given back when `giveBack` is called, at once or
   * later. Chains that are given back after this call has returned are told to the driver by {@linkcode flush}.
   *
   * @param mayStart asked before each chain: false ends the call
   * @returns whether chains may be left
   * @throws {QueueError} if the driver has more chains under way than the queue holds
   */
  drainLater(
    handle: (chain: DescriptorChain, giveBack: () => void) => void,
    mayStart: () => boolean = () => true,
  ): boolean {
    this.#queue.disableNotify();
    try {
      for (let left = this.#queue.size; left > 0; left--) {
        if (!mayStart()) return true;
        const chain = this.#queue.pop();
        if (chain === undefined) {
          if (!this.#queue.enableNotify()) return false;
          continue;
        }
        this.#handOut(chain, handle);
      }
      return true;
    } finally {
      this.flush();
    }
  }

  #handOut(
    chain: DescriptorChain,
    handle: (chain: DescriptorChain, giveBack: () => void) => void,
  ): void {
    // A chain is the driver's again only once it was given back: more of them than descriptors is a lie.
    if (this.#outstanding >= this.#queue.size) {
      throw new QueueError("The driver has more chains under way than the queue holds");
    }
    this.#outstanding++;
    let given = false;
    const giveBack = (): void => {
      if (given) return;
      given = true;
      this.#outstanding--;
      this.push(chain);
    };
    try {
      handle(chain, giveBack);
    } catch (error) {
      giveBack();
      throw error;
    }
  }
}
