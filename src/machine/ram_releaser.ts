/**
 * Gives pages of guest RAM back to the host: the guest reads zeros there when it uses them again.
 *
 * @module
 */

import { MADV, madvise } from "../ffi/sys.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";

const PAGE_BYTES = 4096;

/** Guest RAM in one mapping, whose pages can be dropped. */
export class RamReleaser {
  readonly #memory: GuestMemory;
  readonly #hostAddr: bigint;
  readonly #advice: number;

  /**
   * @param hostAddr where the buffer that `memory` is in begins
   * @param shared whether it is shared memory (memfd): there DONTNEED only unmaps pages, REMOVE frees them
   */
  constructor(memory: GuestMemory, { hostAddr, shared }: { hostAddr: bigint; shared: boolean }) {
    this.#memory = memory;
    this.#hostAddr = hostAddr;
    this.#advice = shared ? MADV.REMOVE : MADV.DONTNEED;
  }

  /** Gives back the whole pages of a range of guest addresses; a range that is not RAM is left alone. */
  releaseRange(guestAddr: number, sizeBytes: number): void {
    if (this.#memory.contains(guestAddr, sizeBytes)) {
      this.releaseView(this.#memory.slice(guestAddr, sizeBytes));
    }
  }

  /** Gives back the whole pages that `view`, a view of guest RAM, covers. */
  releaseView({ byteOffset, byteLength }: Uint8Array<ArrayBuffer>): void {
    const start = Math.ceil(byteOffset / PAGE_BYTES) * PAGE_BYTES;
    const end = Math.floor((byteOffset + byteLength) / PAGE_BYTES) * PAGE_BYTES;
    if (end > start) madvise(this.#hostAddr + BigInt(start), end - start, this.#advice);
  }
}
