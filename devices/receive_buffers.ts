/**
 * The guest's buffers for packets that come in: enough of them are taken ahead that the longest packet fits, as nobody
 * knows the length of a packet before it is read (virtio 1.2 §5.1.6.3).
 *
 * @module
 */

import type { DescriptorChain } from "../src/virtio/descriptor_chain.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";

interface Buffer {
  readonly chain: DescriptorChain;
  readonly viewCount: number;
  readonly sizeBytes: number;
}

/** Offset of num_buffers in the packet's header, `struct virtio_net_hdr_v1`. */
const NUM_BUFFERS_OFFSET = 10;

/** Buffers of one receive queue. */
export class ReceiveBuffers {
  readonly #queue: DeviceQueue;
  readonly #mergeable: boolean;
  readonly #longestBytes: number;
  readonly #buffers: Buffer[] = [];
  /** of all buffers, in order */
  readonly #views: Uint8Array<ArrayBuffer>[] = [];
  #sizeBytes = 0;

  /**
   * @param mergeable whether a packet may be spread over several buffers (VIRTIO_NET_F_MRG_RXBUF)
   * @param longestBytes longest packet that may come, with its header
   */
  constructor(queue: DeviceQueue, mergeable: boolean, longestBytes: number) {
    this.#queue = queue;
    this.#mergeable = mergeable;
    this.#longestBytes = longestBytes;
  }

  /** Room for the next packet, good until {@linkcode commit}; `undefined` if the guest gave too little: it will notify when it gives more. */
  views(): Uint8Array<ArrayBuffer>[] | undefined {
    while (!this.#enough()) {
      const chain = this.#queue.pop();
      if (chain === undefined) {
        if (this.#queue.enableNotify()) continue;
        return undefined;
      }
      const sizeBytes = Math.min(chain.writer.availableBytes, this.#longestBytes);
      const views = chain.writer.views(sizeBytes);
      this.#views.push(...views);
      this.#buffers.push({ chain, viewCount: views.length, sizeBytes });
      this.#sizeBytes += sizeBytes;
    }
    return this.#views;
  }

  /** Gives the buffers back that a packet of `sizeBytes` now fills, from the first of {@linkcode views} on. */
  commit(sizeBytes: number): void {
    const count = this.#countFor(sizeBytes);
    this.#writeCount(count);
    let left = sizeBytes;
    let viewCount = 0;
    for (const { chain, sizeBytes: room, viewCount: views } of this.#buffers.splice(0, count)) {
      viewCount += views;
      chain.writer.advance(Math.min(left, room));
      left -= room;
      this.#sizeBytes -= room;
      this.#queue.push(chain);
    }
    this.#views.splice(0, viewCount);
  }

  #enough(): boolean {
    // More buffers than the queue has cannot be had: then a packet is cut, as one buffer that is too small cuts it.
    if (!this.#mergeable || this.#buffers.length >= this.#queue.size) return this.#buffers.length > 0;
    return this.#sizeBytes >= this.#longestBytes;
  }

  #countFor(sizeBytes: number): number {
    let count = 1;
    for (let room = this.#buffers[0]?.sizeBytes ?? 0; room < sizeBytes; count++) {
      room += this.#buffers[count]?.sizeBytes ?? sizeBytes;
    }
    return count;
  }

  /** §5.1.6.4: num_buffers is set whether buffers are merged or not */
  #writeCount(count: number): void {
    const field = [count & 0xff, count >> 8];
    let offset = NUM_BUFFERS_OFFSET;
    for (const view of this.#views) {
      while (field.length > 0 && offset < view.byteLength) view[offset++] = field.shift() ?? 0;
      if (field.length === 0) return;
      offset -= view.byteLength;
    }
  }
}
