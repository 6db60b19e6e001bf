/**
 * A cursor over the device-readable buffers of a proven chain.
 *
 * @module
 */

import type { GuestMemory } from "../memory/guest_memory.ts";
import type { Segment } from "./descriptor_chain.ts";
import { takeSegments } from "./take_segments.ts";

/** Reads what the driver wrote, in order, whatever buffers it is cut into (virtio 1.2 §2.7.4). */
export class ChainReader {
  readonly #memory: GuestMemory;
  #segments: readonly Segment[];

  constructor(memory: GuestMemory, segments: readonly Segment[]) {
    this.#memory = memory;
    this.#segments = segments;
  }

  /** Bytes not read yet. */
  get availableBytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  }

  /** A copy of the next `sizeBytes`, or `undefined` (and nothing read) if there are fewer. */
  copy(sizeBytes: number): Uint8Array<ArrayBuffer> | undefined {
    if (this.availableBytes < sizeBytes) return undefined;
    const bytes = new Uint8Array(sizeBytes);
    let done = 0;
    for (const view of this.views(sizeBytes)) {
      bytes.set(view, done);
      done += view.byteLength;
    }
    return bytes;
  }

  /** The RAM of the next `sizeBytes` (at most what is left), to hand to the host's write calls. */
  views(sizeBytes: number): Uint8Array<ArrayBuffer>[] {
    const { taken, rest } = takeSegments(this.#segments, sizeBytes);
    this.#segments = rest;
    return taken.map((segment) => this.#memory.slice(segment.guestAddr, segment.sizeBytes));
  }
}
