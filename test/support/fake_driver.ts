/**
 * The driver's side of a virtqueue in plain memory, so that device tests write descriptors as a guest would: also
 * wrong ones.
 *
 * @module
 */

import { GuestMemory } from "../../src/memory/guest_memory.ts";
import { VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE } from "../../src/virtio/abi.ts";
import { DeviceQueue } from "../../src/virtio/device_queue.ts";
import { type QueueLayout, SplitQueue } from "../../src/virtio/split_queue.ts";

/** One descriptor, as it stands in the table. */
export interface Descriptor {
  addr: number;
  len: number;
  flags?: number;
  next?: number;
}

export const DESC_ADDR = 0x1000;
export const AVAIL_ADDR = 0x3000;
export const USED_ADDR = 0x4000;
export const INDIRECT_ADDR = 0x5000;
/** buffers start here */
export const DATA_ADDR = 0x8000;

/** A queue of 16 in 64 KiB of memory, seen from the driver. */
export class FakeDriver {
  readonly memory = new GuestMemory(new ArrayBuffer(0x10000));
  readonly layout: QueueLayout;
  readonly queue: SplitQueue;
  readonly deviceQueue: DeviceQueue;
  interrupts = 0;
  #availIdx = 0;
  #nextDescriptor = 0;
  #dataEnd = DATA_ADDR;

  constructor({ size = 16, eventIdx = false } = {}) {
    this.layout = { size, descAddr: DESC_ADDR, availAddr: AVAIL_ADDR, usedAddr: USED_ADDR, eventIdx };
    this.queue = new SplitQueue(this.memory, this.layout, size);
    this.deviceQueue = new DeviceQueue(this.queue, () => this.interrupts++);
  }

  /** Writes one descriptor of the table (or of an indirect one). */
  setDescriptor(index: number, { addr, len, flags = 0, next = 0 }: Descriptor, tableAddr = DESC_ADDR): void {
    this.memory.writeU64(tableAddr + index * 16, BigInt(addr));
    this.memory.writeU32(tableAddr + index * 16 + 8, len);
    this.memory.writeU16(tableAddr + index * 16 + 12, flags);
    this.memory.writeU16(tableAddr + index * 16 + 14, next);
  }

  /** Makes the chain at `head` available. */
  offer(head: number): void {
    this.memory.writeU16(AVAIL_ADDR + 4 + (this.#availIdx % this.layout.size) * 2, head);
    this.#availIdx = (this.#availIdx + 1) & 0xffff;
    this.memory.writeU16(AVAIL_ADDR + 2, this.#availIdx);
  }

  /** Makes a well-formed chain available: readable buffers with these bytes, then writable ones of these sizes. */
  send(readable: Uint8Array[], writableSizes: number[]): { head: number; writableAddrs: number[] } {
    const buffers = [
      ...readable.map((bytes) => ({ bytes, sizeBytes: bytes.byteLength, flags: 0 })),
      ...writableSizes.map((sizeBytes) => ({ bytes: undefined, sizeBytes, flags: VRING_DESC_F_WRITE })),
    ];
    const head = this.#nextDescriptor;
    const writableAddrs: number[] = [];
    buffers.forEach(({ bytes, sizeBytes, flags }, index) => {
      const addr = this.#dataEnd;
      this.#dataEnd += sizeBytes;
      if (bytes !== undefined) this.memory.copyIn(addr, bytes);
      else writableAddrs.push(addr);
      const last = index === buffers.length - 1;
      const at = this.#nextDescriptor++;
      this.setDescriptor(at, {
        addr,
        len: sizeBytes,
        flags: flags | (last ? 0 : VRING_DESC_F_NEXT),
        next: at + 1,
      });
    });
    this.offer(head);
    return { head, writableAddrs };
  }

  /** Makes an indirect chain available. */
  sendIndirect(descriptors: Descriptor[], sizeBytes = descriptors.length * 16): void {
    descriptors.forEach((descriptor, index) => this.setDescriptor(index, descriptor, INDIRECT_ADDR));
    this.setDescriptor(0, { addr: INDIRECT_ADDR, len: sizeBytes, flags: VRING_DESC_F_INDIRECT });
    this.offer(0);
  }

  /** Used elements, oldest first. */
  used(): { head: number; writtenBytes: number }[] {
    const count = this.memory.readU16(USED_ADDR + 2);
    return Array.from({ length: count }, (_, index) => ({
      head: this.memory.readU32(USED_ADDR + 4 + (index % this.layout.size) * 8),
      writtenBytes: this.memory.readU32(USED_ADDR + 8 + (index % this.layout.size) * 8),
    }));
  }

  /** available ring's used_event: interrupt me for this entry */
  setUsedEvent(index: number): void {
    this.memory.writeU16(AVAIL_ADDR + 4 + this.layout.size * 2, index);
  }

  /** used ring's avail_event, as the device set it */
  get availEvent(): number {
    return this.memory.readU16(USED_ADDR + 4 + this.layout.size * 8);
  }
}
