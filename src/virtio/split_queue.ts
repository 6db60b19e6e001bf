/**
 * The device's side of a split virtqueue (virtio 1.2 §2.7).
 *
 * The life of a request, with the owner of each step:
 * 1. driver: fills buffers and descriptors, 2. driver: writes a head into the available ring and publishes
 * `avail.idx`, 3. driver: notifies, unless told not to, 4. device: {@linkcode SplitQueue.pop} walks and proves the
 * chain, 5. device: reads and writes through the chain's cursors, 6. device: {@linkcode SplitQueue.push} fills a
 * used element and publishes `used.idx`, 7. device: interrupts, if {@linkcode SplitQueue.needsInterrupt}.
 *
 * Assumed: one thread calls this object. Checked here: sizes, alignment and ranges of the rings before any access,
 * and that the driver never claims more chains than the ring holds. Not checked: that the driver leaves a chain
 * alone until it is given back; whoever reads RAM must live with any bytes in it.
 *
 * @module
 */

import type { GuestMemory } from "../memory/guest_memory.ts";
import { VRING_AVAIL_F_NO_INTERRUPT, VRING_USED_F_NO_NOTIFY } from "./abi.ts";
import { DESCRIPTOR_SIZE, DescriptorChain, QueueError } from "./descriptor_chain.ts";

/** Where the driver put a queue, and how it uses it. */
export interface QueueLayout {
  /** number of descriptors */
  readonly size: number;
  readonly descAddr: number;
  readonly availAddr: number;
  readonly usedAddr: number;
  /** whether VIRTIO_RING_F_EVENT_IDX was negotiated */
  readonly eventIdx: boolean;
}

// available ring: le16 flags, le16 idx, le16 ring[size], le16 used_event (§2.7.6)
const AVAIL_IDX = 2;
const AVAIL_RING = 4;
// used ring: le16 flags, le16 idx, { le32 id, le32 len } ring[size], le16 avail_event (§2.7.8)
const USED_IDX = 2;
const USED_RING = 4;
const USED_ELEMENT_SIZE = 8;

/** A queue whose layout was proven, ready to be worked on. */
export class SplitQueue {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #layout: QueueLayout;
  /** next entry of the available ring to take, mod 2^16 */
  #nextAvail = 0;
  /** next entry of the used ring to fill, mod 2^16 */
  #nextUsed = 0;
  /** `#nextUsed` when the driver was last considered for an interrupt */
  #signalledUsed = 0;

  /**
   * Proves the layout.
   *
   * @throws {QueueError} if a ring is misaligned or not in RAM, or the size is not a power of two up to `maxSize`
   */
  constructor(memory: GuestMemory, layout: QueueLayout, maxSize: number) {
    const { size, descAddr, availAddr, usedAddr } = layout;
    if (!isQueueSize(size, maxSize)) throw new QueueError(`A queue size of ${size} is not offered`);
    // §2.7: alignment of the descriptor table 16, available ring 2, used ring 4
    provePart(memory, "descriptor table", descAddr, size * DESCRIPTOR_SIZE, 16);
    provePart(memory, "available ring", availAddr, AVAIL_RING + size * 2 + 2, 2);
    provePart(memory, "used ring", usedAddr, USED_RING + size * USED_ELEMENT_SIZE + 2, 4);
    this.size = size;
    this.#memory = memory;
    this.#layout = layout;
  }

  /**
   * Takes the next available chain, or `undefined` if there is none.
   *
   * @throws {QueueError} if the driver claims more chains than the ring holds, or the chain is broken
   */
  pop(): DescriptorChain | undefined {
    const { availAddr, descAddr } = this.#layout;
    // Pairs with the driver's publication of avail.idx: the ring entry and the chain are read after it.
    const pending = (this.#memory.loadU16(availAddr + AVAIL_IDX) - this.#nextAvail) & 0xffff;
    if (pending === 0) return undefined;
    if (pending > this.size) {
      throw new QueueError(`The driver claims ${pending} chains in a queue of ${this.size}`);
    }
    const head = this.#memory.readU16(availAddr + AVAIL_RING + (this.#nextAvail % this.size) * 2);
    const chain = DescriptorChain.walk(this.#memory, descAddr, this.size, head);
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    return chain;
  }

  /** Makes the last popped chain available again: it was looked at but not used. */
  undoPop(): void {
    this.#nextAvail = (this.#nextAvail - 1) & 0xffff;
  }

  /** Gives a chain back, with the number of bytes written into it. */
  push(chain: DescriptorChain, writtenBytes: number): void {
    const { usedAddr } = this.#layout;
    const element = usedAddr + USED_RING + (this.#nextUsed % this.size) * USED_ELEMENT_SIZE;
    this.#memory.writeU32(element, chain.head);
    this.#memory.writeU32(element + 4, writtenBytes);
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    // Publishes the element: pairs with the driver's read of used.idx before the ring.
    this.#memory.storeU16(usedAddr + USED_IDX, this.#nextUsed);
  }

  /** Whether the driver wants an interrupt for what was pushed since the last call (§2.7.7). */
  needsInterrupt(): boolean {
    const { availAddr, eventIdx } = this.#layout;
    const before = this.#signalledUsed;
    const after = this.#nextUsed;
    if (before === after) return false;
    this.#signalledUsed = after;
    if (!eventIdx) return (this.#memory.loadU16(availAddr) & VRING_AVAIL_F_NO_INTERRUPT) === 0;
    // §2.7.7.2: interrupt if used_event is among the entries that were just published
    const usedEvent = this.#memory.loadU16(availAddr + AVAIL_RING + this.size * 2);
    return ((after - usedEvent - 1) & 0xffff) < ((after - before) & 0xffff);
  }

  /**
   * Asks the driver to notify of the next chain. Returns whether a chain came meanwhile: then no notification may
   * follow for it, and the caller goes on popping.
   */
  enableNotify(): boolean {
    const { usedAddr, availAddr, eventIdx } = this.#layout;
    if (eventIdx) {
      this.#memory.storeU16(usedAddr + USED_RING + this.size * USED_ELEMENT_SIZE, this.#nextAvail);
    } else this.#memory.storeU16(usedAddr, 0);
    // Atomics.store is a full barrier on x86: this load cannot be done before it.
    return this.#memory.loadU16(availAddr + AVAIL_IDX) !== this.#nextAvail;
  }

  /** Tells the driver that no notification is needed, as the device is looking already. */
  disableNotify(): void {
    const { usedAddr, eventIdx } = this.#layout;
    // With EVENT_IDX the stale avail_event does it: it lies behind the next index.
    if (!eventIdx) this.#memory.storeU16(usedAddr, VRING_USED_F_NO_NOTIFY);
  }
}

/** Whether a driver may choose this queue size: a power of two up to the offered one. */
export function isQueueSize(size: number, maxSize: number): boolean {
  return Number.isInteger(size) && size > 0 && size <= maxSize && (size & (size - 1)) === 0;
}

function provePart(
  memory: GuestMemory,
  part: string,
  guestAddr: number,
  sizeBytes: number,
  align: number,
): void {
  if (guestAddr % align !== 0) {
    throw new QueueError(`The ${part} at 0x${guestAddr.toString(16)} is not aligned to ${align}`);
  }
  if (!memory.contains(guestAddr, sizeBytes)) {
    throw new QueueError(`The ${part} at 0x${guestAddr.toString(16)} is not in RAM`);
  }
}
