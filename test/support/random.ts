/**
 * Random numbers that come again: xorshift32 from a seed.
 *
 * @module
 */

/** A seeded generator. */
export class Random {
  #state: number;

  /** `seed` is not 0. */
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** 32 random bits. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return this.#state = x >>> 0;
  }

  /** A whole number from 0 to `limit` - 1, also above 2^32. */
  below(limit: number): number {
    return limit <= 2 ** 32 ? this.next() % limit : (this.next() * 2 ** 20 + (this.next() >>> 12)) % limit;
  }

  /** Random bytes. */
  bytes(count: number): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length: count }, () => this.next() & 0xff);
  }
}
