/**
 * Limits how much a device moves: token buckets for bytes and for operations. A bucket may go into debt for one
 * request, however large, and then makes the next one wait: requests are never cut into parts.
 *
 * @module
 */

/** What a disk or a network interface may do in one second, on average; a second's worth at once. */
export interface RateLimit {
  readonly bytesPerSecond?: number;
  readonly operationsPerSecond?: number;
}

/** One bucket, full at the start. */
class TokenBucket {
  readonly #ratePerMs: number;
  readonly #capacity: number;
  #tokens: number;
  #filledAtMs: number;

  constructor(ratePerSecond: number, nowMs: number) {
    this.#ratePerMs = ratePerSecond / 1000;
    this.#capacity = ratePerSecond;
    this.#tokens = ratePerSecond;
    this.#filledAtMs = nowMs;
  }

  /** `ms` until something may be taken: 0 if at once. */
  waitMs(nowMs: number): number {
    const grown = Math.max(0, nowMs - this.#filledAtMs) * this.#ratePerMs;
    this.#tokens = Math.min(this.#capacity, this.#tokens + grown);
    this.#filledAtMs = nowMs;
    return this.#tokens > 0 ? 0 : Math.ceil((1 - this.#tokens) / this.#ratePerMs);
  }

  take(count: number): void {
    this.#tokens -= count;
  }
}

/** Both limits of one device. */
export class RateLimiter {
  readonly #bytes: TokenBucket | undefined;
  readonly #operations: TokenBucket | undefined;
  readonly #now: () => number;

  /** `now`: a clock in `ms` that never goes back */
  constructor(limit: RateLimit, now: () => number = () => performance.now()) {
    const { bytesPerSecond, operationsPerSecond } = limit;
    this.#now = now;
    if (bytesPerSecond !== undefined) this.#bytes = new TokenBucket(bytesPerSecond, now());
    if (operationsPerSecond !== undefined) this.#operations = new TokenBucket(operationsPerSecond, now());
  }

  /** `ms` until the next operation may begin: 0 if at once. */
  waitMs(): number {
    const now = this.#now();
    return Math.max(this.#bytes?.waitMs(now) ?? 0, this.#operations?.waitMs(now) ?? 0);
  }

  /** Accounts for one operation that moves `sizeBytes`. */
  charge(sizeBytes: number): void {
    this.#bytes?.take(sizeBytes);
    this.#operations?.take(1);
  }
}
