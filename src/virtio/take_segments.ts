/**
 * Cuts a number of bytes off the front of a list of buffers.
 *
 * @module
 */

import type { Segment } from "./descriptor_chain.ts";

/** The first `sizeBytes` of `segments` (or all, if there are fewer), and what remains. */
export function takeSegments(
  segments: readonly Segment[],
  sizeBytes: number,
): { taken: Segment[]; rest: Segment[] } {
  const taken: Segment[] = [];
  const rest: Segment[] = [];
  let left = sizeBytes;
  for (const segment of segments) {
    const count = Math.min(left, segment.sizeBytes);
    left -= count;
    if (count > 0) taken.push({ guestAddr: segment.guestAddr, sizeBytes: count });
    if (count < segment.sizeBytes) {
      rest.push({ guestAddr: segment.guestAddr + count, sizeBytes: segment.sizeBytes - count });
    }
  }
  return { taken, rest };
}
