/**
 * A descriptor chain, walked once and proven, then read and written through cursors only.
 *
 * What is checked here, for every chain (virtio 1.2 §2.7.5):
 * - each index is inside its table, and no more descriptors are followed than the table holds (a loop ends there);
 * - an indirect table is a whole number of descriptors, is not inside another one, has no NEXT beside it, and is
 *   read from a copy;
 * - device-readable buffers come before device-writable ones;
 * - each buffer is RAM from end to end, and all together are at most 2^32 - 1 bytes.
 *
 * A buffer of length 0 is allowed: drivers never make one, but the specification does not forbid it.
 *
 * @module
 */

import type { GuestMemory } from "../memory/guest_memory.ts";
import { VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE } from "./abi.ts";
import { ChainReader } from "./chain_reader.ts";
import { ChainWriter } from "./chain_writer.ts";

/** `struct vring_desc`: le64 addr, le32 len, le16 flags, le16 next. */
export const DESCRIPTOR_SIZE = 16;

const MAX_CHAIN_BYTES = 2 ** 32 - 1;

/** The guest broke a queue: the device stops using it and asks for a reset. */
export class QueueError extends Error {
  override readonly name = "QueueError";
}

/** A buffer of the chain, proven to be RAM. Stays inside `src/virtio`: devices get cursors. */
export interface Segment {
  readonly guestAddr: number;
  readonly sizeBytes: number;
}

/** A popped chain: `head` goes back into the used ring, the cursors are what the device works with. */
export class DescriptorChain {
  readonly head: number;
  /** what the driver wrote for the device */
  readonly reader: ChainReader;
  /** where the device answers */
  readonly writer: ChainWriter;

  private constructor(memory: GuestMemory, head: number, readable: Segment[], writable: Segment[]) {
    this.head = head;
    this.reader = new ChainReader(memory, readable);
    this.writer = new ChainWriter(memory, writable);
  }

  /**
   * Walks the chain that starts at descriptor `head` of the table at `tableAddr`.
   *
   * @throws {QueueError} if the chain breaks a rule of the module's list
   */
  static walk(memory: GuestMemory, tableAddr: number, tableSize: number, head: number): DescriptorChain {
    const walker = new ChainWalker(memory);
    walker.follow({ memory, tableAddr, tableSize }, head, false);
    return new DescriptorChain(memory, head, walker.readable, walker.writable);
  }
}

interface Table {
  readonly memory: GuestMemory;
  readonly tableAddr: number;
  readonly tableSize: number;
}

class ChainWalker {
  readonly readable: Segment[] = [];
  readonly writable: Segment[] = [];
  readonly #memory: GuestMemory;
  #totalBytes = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  follow({ memory, tableAddr, tableSize }: Table, first: number, insideIndirect: boolean): void {
    let index = first;
    // The loop guard: a chain without a cycle visits each descriptor of its table once at most.
    for (let left = tableSize; left > 0; left--) {
      if (index >= tableSize) {
        throw new QueueError(`Descriptor index ${index} is beyond the table of ${tableSize}`);
      }
      const addr = tableAddr + index * DESCRIPTOR_SIZE;
      const flags = memory.readU16(addr + 12);
      const next = memory.readU16(addr + 14);
      const guestAddr = memory.readU64(addr);
      const sizeBytes = memory.readU32(addr + 8);
      if ((flags & VRING_DESC_F_INDIRECT) !== 0) {
        // §2.7.5.3.1: no indirect descriptor in an indirect table, nor together with NEXT
        if (insideIndirect) throw new QueueError("An indirect descriptor stands in an indirect table");
        if ((flags & VRING_DESC_F_NEXT) !== 0) throw new QueueError("An indirect descriptor has a NEXT flag");
        this.#followIndirect(guestAddr, sizeBytes);
        return;
      }
      this.#add({ guestAddr, sizeBytes }, (flags & VRING_DESC_F_WRITE) !== 0);
      if ((flags & VRING_DESC_F_NEXT) === 0) return;
      index = next;
    }
    throw new QueueError("A descriptor chain is longer than its table: it has a loop");
  }

  #followIndirect(guestAddr: number, sizeBytes: number): void {
    const count = sizeBytes / DESCRIPTOR_SIZE;
    // A table longer than 2^16 entries could not be indexed by the 16-bit `next`; it would only cost host time.
    if (!Number.isInteger(count) || count === 0 || count > 0xffff) {
      throw new QueueError(`An indirect table has ${sizeBytes} bytes`);
    }
    if (!this.#memory.contains(guestAddr, sizeBytes)) {
      throw new QueueError(`An indirect table at 0x${guestAddr.toString(16)} is not in RAM`);
    }
    this.follow({ memory: this.#memory, tableAddr: guestAddr, tableSize: count }, 0, true);
  }

  #add(segment: Segment, deviceWritable: boolean): void {
    if (!this.#memory.contains(segment.guestAddr, segment.sizeBytes)) {
      throw new QueueError(`A buffer at 0x${segment.guestAddr.toString(16)} is not in RAM`);
    }
    this.#totalBytes += segment.sizeBytes;
    if (this.#totalBytes > MAX_CHAIN_BYTES) throw new QueueError("A descriptor chain is longer than 4 GiB");
    if (deviceWritable) {
      this.writable.push(segment);
      return;
    }
    // §2.7.4.2: readable buffers before writable ones
    if (this.writable.length > 0) throw new QueueError("A readable buffer follows a writable one");
    this.readable.push(segment);
  }
}
