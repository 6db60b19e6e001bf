/**
 * All vCPU threads of a machine: what one is told, all are told.
 *
 * The control word says what they have to do, a kick makes them look at it. Main alone writes both the word and
 * `immediateExit`, in this order: word, then kick; and back, once every thread waits: `immediateExit`, then word. So a
 * thread either sees the word before it enters the guest, or its entry is interrupted.
 *
 * @module
 */

import type { VcpuThread } from "./vcpu_thread.ts";
import { CONTROL_WORD, RUN, STOP } from "./worker_protocol.ts";

/** Stops, pauses and resumes the threads. */
export class VcpuGroup {
  readonly #threads: readonly VcpuThread[];
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #oneStopped: Promise<unknown>;
  #pauses = 0;
  /** end of the last request: one is served after the other */
  #last: Promise<unknown> = Promise.resolve();

  /** `shared` has the control word, see `worker_protocol.ts`. */
  constructor(threads: readonly VcpuThread[], shared: SharedArrayBuffer) {
    this.#threads = threads;
    this.#words = new Int32Array(shared);
    this.#oneStopped = Promise.race(threads.map((thread) => thread.stopped)).catch(() => {});
  }

  /** Makes all threads leave the guest for good, paused or not. */
  stop(): void {
    this.#set(STOP);
    for (const thread of this.#threads) thread.kick();
  }

  /**
   * Takes all vCPUs out of KVM_RUN, their last instructions finished. Settles with the time it took in `ms`, 0 if they
   * were paused already, or `undefined` if the machine ended instead.
   */
  pause(): Promise<number | undefined> {
    return this.#inTurn(() => this.#pauseAll());
  }

  /** Lets paused vCPUs go on; `undefined` if the machine has ended. */
  resume(): Promise<true | undefined> {
    return this.#inTurn(() => {
      const control = this.#control();
      if (control > 0) {
        for (const thread of this.#threads) thread.allowEntry();
        this.#set(RUN);
      }
      return control === STOP ? undefined : true;
    });
  }

  async #pauseAll(): Promise<number | undefined> {
    const control = this.#control();
    if (control !== RUN) return control === STOP ? undefined : 0;
    const startMs = performance.now();
    this.#pauses++;
    this.#set(this.#pauses);
    const paused = Promise.all(this.#threads.map((thread) => thread.pause(this.#pauses)));
    // A thread that ended, or threw, never pauses: the machine is then about to stop.
    const isPaused = await Promise.race([paused.then(() => true), this.#oneStopped.then(() => false)]);
    return isPaused && this.#control() !== STOP ? performance.now() - startMs : undefined;
  }

  #inTurn<T>(request: () => T | Promise<T>): Promise<T> {
    const turn = this.#last.then(request);
    this.#last = turn.catch(() => {});
    return turn;
  }

  #control(): number {
    return Atomics.load(this.#words, CONTROL_WORD);
  }

  #set(control: number): void {
    Atomics.store(this.#words, CONTROL_WORD, control);
    Atomics.notify(this.#words, CONTROL_WORD);
  }
}
