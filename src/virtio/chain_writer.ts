/**
 * A cursor over the device-writable buffers of a proven chain.
 *
 * @module
 */

import type { GuestMemory } from "../memory/guest_memory.ts";
import type { Segment } from "./descriptor_chain.ts";
import { takeSegments } from "./take_segments.ts";

/** Writes the device's answer, in order, whatever buffers the driver gave for it. */
export class ChainWriter {
  readonly #memory: GuestMemory;
  #segments: readonly Segment[];
  #writtenBytes = 0;

  constructor(memory: GuestMemory, segments: readonly Segment[]) {
    this.#memory = memory;
    this.#segments = segments;
  }

  /** Bytes not written yet. */
  get availableBytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  }

  /** Bytes from the start that were written: the length for the used ring (virtio 1.2 §2.7.8). */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Writes `bytes`; false (and nothing written) if they do not fit. */
  write(bytes: Uint8Array): boolean {
    if (this.availableBytes < bytes.byteLength) return false;
    let done = 0;
    for (const view of this.views(bytes.byteLength)) {
      view.set(bytes.subarray(done, done + view.byteLength));
      done += view.byteLength;
    }
    this.#writtenBytes += done;
    return true;
  }

  /**
   * The RAM of the next `sizeBytes` (at most what is left), for the host's read calls to fill. What was
   * filled is told with {@linkcode advance}.
   */
  views(sizeBytes: number): Uint8Array<ArrayBuffer>[] {
    const { taken, rest } = takeSegments(this.#segments, sizeBytes);
    this.#segments = rest;
    return taken.map((segment) => this.#memory.slice(segment.guestAddr, segment.sizeBytes));
  }

  /** Counts bytes that the host wrote into {@linkcode views}. */
  advance(sizeBytes: number): void {
    this.#writtenBytes += sizeBytes;
  }
}
