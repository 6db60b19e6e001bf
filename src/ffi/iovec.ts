/**
 * Arrays of `struct iovec` that point into one mapping, so that the kernel moves bulk data from and to guest
 * memory without a copy in JavaScript.
 *
 * @module
 */

/** `struct iovec`: void *iov_base, size_t iov_len. */
const ENTRY_SIZE = 16;

/** Entries that one call takes: IOV_MAX of linux/uio.h. */
export const IOV_MAX = 1024;

/** A reusable iovec array over views of memory. */
export class Iovec {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #base: ArrayBuffer;
  readonly #baseAddr: bigint;

  /** `base` is the mapping's buffer and `hostAddr` its address: views into it need no address look-up. */
  constructor(base: ArrayBuffer, hostAddr: bigint, capacity = IOV_MAX) {
    this.bytes = new Uint8Array(ENTRY_SIZE * capacity);
    this.#view = new DataView(this.bytes.buffer);
    this.#base = base;
    this.#baseAddr = hostAddr;
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
      this.#view.setBigUint64(at, this.addressOf(view), true);
      this.#view.setBigUint64(at + 8, BigInt(view.byteLength), true);
    }
    return count;
  }

  /** Where a view lies in memory. */
  addressOf(view: Uint8Array<ArrayBuffer>): bigint {
    if (view.buffer === this.#base) return this.#baseAddr + BigInt(view.byteOffset);
    return Deno.UnsafePointer.value(Deno.UnsafePointer.of(view));
  }
}
