/**
 * A task that this process has and that is not over: its abort switch, who follows it, and the lease of an attached one.
 *
 * @module
 */

import type { ModelCredentials } from "../session/model_access.ts";

/** How long an attached task lives with nobody following it, in `ms`. */
const LEASE_MS = 15_000;

/** Why a task is to end before its time. */
export type StopReason = "cancelled" | "interrupted";

/** A task that waits or runs. */
export class LiveTask {
  readonly #abort = new AbortController();
  readonly #waiters = new Set<() => void>();
  readonly #attached: boolean;
  #followerCount = 0;
  #lease: ReturnType<typeof setTimeout> | undefined;
  #stopReason: StopReason | undefined;
  /** settles when the task is over and stored (undefined: it waits for its turn) */
  run: Promise<void> | undefined;
  /** called when nobody follows an attached task any more */
  onAbandoned: () => void = () => {};

  /** what its requests to the model carry */
  readonly credentials: ModelCredentials;

  /** `attached`: the task ends when nobody follows it any more */
  constructor(attached: boolean, credentials: ModelCredentials) {
    this.#attached = attached;
    this.credentials = credentials;
    this.#startLease();
  }

  /** aborts when the task is to end */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** why it was told to end, if it was */
  get stopReason(): StopReason | undefined {
    return this.#stopReason;
  }

  /** Ends the task; the first reason stays. */
  stop(reason: StopReason): void {
    this.#stopReason ??= reason;
    this.#abort.abort();
  }

  /** Counts somebody in who follows the events. */
  follow(): Disposable {
    this.#followerCount += 1;
    clearTimeout(this.#lease);
    return {
      [Symbol.dispose]: () => {
        this.#followerCount -= 1;
        if (this.#followerCount === 0) this.#startLease();
      },
    };
  }

  /** Wakes all who wait for an event. */
  wake(): void {
    for (const waiter of this.#waiters) waiter();
    this.#waiters.clear();
  }

  /** Waits for the next event, the end of the task, a limit in `ms` or a signal; false: the limit was reached. */
  async wait(limitMs: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return true;
    return await new Promise<boolean>((resolve) => {
      const finish = (inTime: boolean): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#waiters.delete(done);
        resolve(inTime);
      };
      const done = (): void => finish(true);
      const timer = setTimeout(() => finish(false), limitMs);
      signal.addEventListener("abort", done, { once: true });
      this.#waiters.add(done);
    });
  }

  /** The task is over: no lease, no waiting. */
  finish(): void {
    this.#followerCount += 1;
    clearTimeout(this.#lease);
    this.wake();
  }

  #startLease(): void {
    if (this.#attached) this.#lease = setTimeout(() => this.onAbandoned(), LEASE_MS);
  }
}
