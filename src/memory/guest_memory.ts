/**
 * The only code that reads or writes guest RAM. Every access names a guest physical address and a length, and
 * every one goes through the same check: the whole range lies inside one region of RAM. Addresses come from the
 * guest, so they may be anything: negative, fractional, above 2^53 or at the very end of a region.
 *
 * @module
 */

/** A piece of guest physical address space that is RAM. */
export interface MemoryRegion {
  /** first guest physical address */
  readonly guestAddr: number;
  readonly sizeBytes: number;
  /** where the region starts in the buffer */
  readonly bufferOffset: number;
}

/** A guest address range that is not (entirely) RAM. */
export class GuestAddressError extends RangeError {
  override readonly name = "GuestAddressError";
  constructor(guestAddr: number, sizeBytes: number) {
    super(`Cannot access ${sizeBytes} bytes of guest memory at 0x${guestAddr.toString(16)}`);
  }
}

/** Guest RAM, seen through one checked door. */
export class GuestMemory {
  readonly regions: readonly MemoryRegion[];
  readonly #buffer: ArrayBuffer;
  readonly #view: DataView;
  readonly #u16: Uint16Array;

  /** RAM in `buffer`; by default all of it is one region from guest address 0. */
  constructor(buffer: ArrayBuffer, regions?: readonly MemoryRegion[]) {
    this.regions = regions ?? [{ guestAddr: 0, sizeBytes: buffer.byteLength, bufferOffset: 0 }];
    for (const region of this.regions) {
      if (region.bufferOffset + region.sizeBytes > buffer.byteLength) {
        throw new RangeError("Cannot place a memory region outside the buffer");
      }
    }
    this.#buffer = buffer;
    this.#view = new DataView(buffer);
    this.#u16 = new Uint16Array(buffer, 0, Math.floor(buffer.byteLength / 2));
  }

  /** True if the whole range is RAM. An empty range is, where its address is inside RAM or at a region's end. */
  contains(guestAddr: number, sizeBytes: number): boolean {
    return this.#find(guestAddr, sizeBytes) !== undefined;
  }

  readU8(guestAddr: number): number {
    return this.#view.getUint8(this.#offset(guestAddr, 1));
  }

  readU16(guestAddr: number): number {
    return this.#view.getUint16(this.#offset(guestAddr, 2), true);
  }

  readU32(guestAddr: number): number {
    return this.#view.getUint32(this.#offset(guestAddr, 4), true);
  }

  /**
   * An unsigned 64-bit value as a number. Above 2^53 it is rounded, but rounding is monotonic: what was out of
   * every range stays out of it.
   */
  readU64(guestAddr: number): number {
    const offset = this.#offset(guestAddr, 8);
    return this.#view.getUint32(offset, true) + this.#view.getUint32(offset + 4, true) * 2 ** 32;
  }

  writeU8(guestAddr: number, value: number): void {
    this.#view.setUint8(this.#offset(guestAddr, 1), value);
  }

  writeU16(guestAddr: number, value: number): void {
    this.#view.setUint16(this.#offset(guestAddr, 2), value, true);
  }

  writeU32(guestAddr: number, value: number): void {
    this.#view.setUint32(this.#offset(guestAddr, 4), value, true);
  }

  writeU64(guestAddr: number, value: bigint): void {
    this.#view.setBigUint64(this.#offset(guestAddr, 8), value, true);
  }

  /**
   * Reads an aligned 16-bit ring word that the guest's other CPUs write at the same time. Pairs with the guest's
   * release store: what the guest wrote before it is visible after this.
   */
  loadU16(guestAddr: number): number {
    return Atomics.load(this.#u16, this.#offset(guestAddr, 2) / 2);
  }

  /** Publishes an aligned 16-bit ring word: what was written before it is visible to a guest that sees it. */
  storeU16(guestAddr: number, value: number): void {
    Atomics.store(this.#u16, this.#offset(guestAddr, 2) / 2, value);
  }

  /** A copy: the guest cannot change it under the reader. */
  copyOut(guestAddr: number, sizeBytes: number): Uint8Array<ArrayBuffer> {
    return this.slice(guestAddr, sizeBytes).slice();
  }

  /** Writes `bytes`. */
  copyIn(guestAddr: number, bytes: Uint8Array): void {
    this.slice(guestAddr, bytes.byteLength).set(bytes);
  }

  /** Zeroes a range. */
  fill(guestAddr: number, sizeBytes: number, value = 0): void {
    this.slice(guestAddr, sizeBytes).fill(value);
  }

  /** The RAM itself, for the kernel to move bulk data from or to. Not for parsing: the guest can change it. */
  slice(guestAddr: number, sizeBytes: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#buffer, this.#offset(guestAddr, sizeBytes), sizeBytes);
  }

  #offset(guestAddr: number, sizeBytes: number): number {
    const offset = this.#find(guestAddr, sizeBytes);
    if (offset === undefined) throw new GuestAddressError(guestAddr, sizeBytes);
    return offset;
  }

  #find(guestAddr: number, sizeBytes: number): number | undefined {
    if (!Number.isInteger(guestAddr) || !Number.isInteger(sizeBytes) || sizeBytes < 0) return undefined;
    for (const region of this.regions) {
      const start = guestAddr - region.guestAddr;
      if (start >= 0 && start + sizeBytes <= region.sizeBytes) return region.bufferOffset + start;
    }
    return undefined;
  }
}
