/**
 * Arrays of `struct iovec` that point into one mapping, so that the kernel moves bulk data from and to guest
 * memory without a copy in JavaScript.
 *
 * @module
 */

/** `struct iovec`: void *iov_base, size_t iov_len. */
const ENTRY_SIZE = 16;
const WORD = 2 ** 32;

/** Entries that one call takes: IOV_MAX of linux/uio.h. */
export const IOV_MAX = 1024;

/** A reusable iovec array over views of memory. */
export class Iovec {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #base: ArrayBuffer;
  readonly #baseAddr: bigint;
  /** the same as a number: user addresses are below 2^47 */
  readonly #base53: number;

  /** `base` is the mapping's buffer and `hostAddr` its address: views into it need no address look-up. */
  constructor(base: ArrayBuffer, hostAddr: bigint, capacity = IOV_MAX) {
    this.bytes = new Uint8Array(ENTRY_SIZE * capacity);
    this.#view = new DataView(this.bytes.buffer);
    this.#base = base;
    this.#baseAddr = hostAddr;
    this.#base53 = Number(hostAddr);
  }

  /**
   * Fills the array from views, at most {@linkcode IOV_MAX} of them; returns the number of entries. The views
   * must be kept alive by the caller until the call that uses the array has returned.
   *
   * @param first the entry to begin with: what is before it stays
   */
  fill(views: readonly Uint8Array<ArrayBuffer>[], first = 0): number {
    const count = Math.min(views.length, IOV_MAX);
    for (let index = 0; index < count; index++) {
      const view = views[index];
      if (view === undefined) break;
      const at = (first + index) * ENTRY_SIZE;
      // Most views are guest RAM: no BigInt for them, of which a packet may need dozens.
      const addr = view.buffer === this.#base ? this.#base53 + view.byteOffset : Number(this.addressOf(view));
      this.#view.setUint32(at, addr % WORD, true);
      this.#view.setUint32(at + 4, Math.floor(addr / WORD), true);
      this.#view.setUint32(at + 8, view.byteLength % WORD, true);
      this.#view.setUint32(at + 12, Math.floor(view.byteLength / WORD), true);
    }
    return count;
  }

  /** Where a view lies in memory. */
  addressOf(view: Uint8Array<ArrayBuffer>): bigint {
    if (view.buffer === this.#base) return this.#baseAddr + BigInt(view.byteOffset);
    return Deno.UnsafePointer.value(Deno.UnsafePointer.of(view));
  }
}
