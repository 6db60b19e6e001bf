/**
 * Routes an access to the device whose range it falls in. One bus for ports, one for MMIO.
 *
 * @module
 */

/** What the guest sees of a device on a bus. `offset` is relative to the range's start; `size` is 1, 2, 4 or 8. */
export interface BusDevice {
  read(offset: number, size: number): number;
  write(offset: number, size: number, value: number): void;
}

interface Range {
  readonly start: number;
  readonly end: number;
  readonly device: BusDevice;
}

/** Address ranges and the devices behind them. */
export class Bus {
  readonly #ranges: Range[] = [];
  /** who was found last */
  #last: Range | undefined;

  /**
   * Puts a device at `[start, start + size)`.
   *
   * @throws {RangeError} if the range meets one that is taken
   */
  add(start: number, size: number, device: BusDevice): void {
    const end = start + size;
    if (this.#ranges.some((range) => start < range.end && range.start < end)) {
      throw new RangeError(`Cannot add a device at 0x${start.toString(16)}: the range is taken`);
    }
    this.#ranges.push({ start, end, device });
  }

  /** Reads; nobody there reads as all ones, like a bus without a driver. */
  read(addr: number, size: number): number {
    const range = this.#find(addr, size);
    if (range === undefined) return size === 8 ? Number.MAX_SAFE_INTEGER : 2 ** (8 * size) - 1;
    return range.device.read(addr - range.start, size);
  }

  /** Writes; nobody there ignores it. Returns whether somebody was. */
  write(addr: number, size: number, value: number): boolean {
    const range = this.#find(addr, size);
    range?.device.write(addr - range.start, size, value);
    return range !== undefined;
  }

  #find(addr: number, size: number): Range | undefined {
    // A guest often stays with one device. No closure: this runs for every exit.
    const last = this.#last;
    if (last !== undefined && addr >= last.start && addr + size <= last.end) return last;
    for (const range of this.#ranges) {
      if (addr >= range.start && addr + size <= range.end) return this.#last = range;
    }
    return undefined;
  }
}
