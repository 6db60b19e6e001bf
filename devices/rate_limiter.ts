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

/** Holds a device back while its limiter says so: it asks before each operation, and is woken once when it may go on. */
export class RateGate {
  readonly #limiter: RateLimiter | undefined;
  readonly #wakeIn: (delayMs: number) => void;
  #closed = false;
  /** the queue that is served first the next time */
  #turn = 0;

  /** Without a limiter it is always open. `wakeIn` has the device woken in that many `ms`, which then calls {@linkcode reopen}. */
  constructor(limiter: RateLimiter | undefined, wakeIn: (delayMs: number) => void = () => {}) {
    this.#limiter = limiter;
    this.#wakeIn = wakeIn;
  }

  /** a wake-up is on its way: nothing begins until then */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether an operation may begin. */
  mayStart(): boolean {
    if (this.#closed) return false;
    const waitMs = this.#limiter?.waitMs() ?? 0;
    if (waitMs === 0) return true;
    this.#closed = true;
    this.#wakeIn(waitMs);
    return false;
  }

  /** See {@linkcode RateLimiter.charge}. */
  charge(sizeBytes: number): void {
    this.#limiter?.charge(sizeBytes);
  }

  /**
   * The time that was asked for is over: `serve` goes on with each queue, and returns whether more is left in it. Each time
   * another queue is the first, or one that never ends would have all of the rate.
   */
  reopen(queueCount: number, serve: (queueIndex: number) => boolean): void {
    this.#closed = false;
    const first = this.#turn++;
    const left = Array.from({ length: queueCount }, (_, index) => serve((first + index) % queueCount));
    if (left.includes(true)) this.#wakeIn(0);
  }
}
