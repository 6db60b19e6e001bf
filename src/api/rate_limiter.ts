/**
 * How often something may happen, for each of many keys: a bucket that fills evenly and holds a minute's worth.
 *
 * @module
 */

/** Keys that are known at once; of more, the one that was seen longest ago is forgotten. */
const MAX_KEYS = 10_000;
const MINUTE_MS = 60_000;

interface Bucket {
  count: number;
  atMs: number;
}

/** Counts for any number of keys, in bounded memory. */
export class RateLimiter {
  readonly #buckets = new Map<string, Bucket>();
  readonly #now: () => number;

  /** `now`: a clock that never goes back, in `ms` */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Takes one from a key's bucket; gives 0, or the time in seconds after which there is one again. */
  take(key: string, perMinute: number): number {
    const now = this.#now();
    const { count, atMs } = this.#buckets.get(key) ?? { count: perMinute, atMs: now };
    const filled = Math.min(perMinute, count + (now - atMs) * perMinute / MINUTE_MS);
    const isThere = filled >= 1;
    // Put back at the end: a map keeps the order of its keys
    this.#buckets.delete(key);
    this.#buckets.set(key, { count: isThere ? filled - 1 : filled, atMs: now });
    if (this.#buckets.size > MAX_KEYS) this.#forgetOldest();
    return isThere ? 0 : Math.ceil((1 - filled) * MINUTE_MS / perMinute / 1000);
  }

  #forgetOldest(): void {
    for (const key of this.#buckets.keys()) {
      this.#buckets.delete(key);
      return;
    }
  }
}
