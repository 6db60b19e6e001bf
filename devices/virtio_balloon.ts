/**
 * virtio memory balloon (virtio 1.2 §5.5): pages that the guest does not use go back to the host. The guest gives pages
 * that it was asked for (inflate queue) or reports those that happen to be free (reporting queue); it has a page again
 * by using it, then reads zeros.
 *
 * The guest controls which pages it names. Only whole pages of its own RAM are given back, at most
 * {@linkcode MAX_PAGES} a request: wrong ones harm nobody but the guest.
 *
 * @module
 */

import { VIRTIO_ID_BALLOON } from "../src/virtio/abi.ts";
import type { DescriptorChain } from "../src/virtio/descriptor_chain.ts";
import type { ActiveContext, VirtioDevice } from "../src/virtio/device.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";

// linux/virtio_balloon.h
export const VIRTIO_BALLOON_F_DEFLATE_ON_OOM = 1n << 2n;
export const VIRTIO_BALLOON_F_REPORTING = 1n << 5n;

/** pages are of 4 KiB, whatever the guest's own size (§5.5.6) */
const PAGE_BYTES = 4096;
/** Pages that one request may name; Linux names 256 at once. */
const MAX_PAGES = 4096;
const QUEUE_SIZE = 128;
const INFLATE = 0;
const DEFLATE = 1;
/** The driver numbers the queues of features that were negotiated without gaps: no statistics, no hints (§5.5.2). */
const REPORTING = 2;

/** The guest's RAM as the balloon sees it. */
export interface BalloonBackend {
  /** Gives back the whole pages of a range of guest addresses that are RAM; others are left alone. */
  releaseRange(guestAddr: number, sizeBytes: number): void;
  /** Gives back the whole pages that `view`, a view of guest RAM, covers. */
  releaseView(view: Uint8Array<ArrayBuffer>): void;
}

/** The balloon. */
export class VirtioBalloon implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_BALLOON;
  readonly features: bigint = VIRTIO_BALLOON_F_DEFLATE_ON_OOM | VIRTIO_BALLOON_F_REPORTING;
  readonly queueSizes: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE];
  readonly #backend: BalloonBackend;
  #queues: readonly (DeviceQueue | undefined)[] = [];

  constructor(backend: BalloonBackend) {
    this.#backend = backend;
  }

  /** `struct virtio_balloon_config`: num_pages and actual, both 0, as nobody asks for pages; poison_val at 12 */
  config(): Uint8Array {
    return new Uint8Array(16);
  }

  activate({ queues }: ActiveContext): void {
    this.#queues = queues;
  }

  notify(queueIndex: number): boolean {
    return this.#queues[queueIndex]?.drain((chain) => this.#serve(queueIndex, chain)) ?? false;
  }

  reset(): void {
    this.#queues = [];
  }

  #serve(queueIndex: number, { reader, writer }: DescriptorChain): void {
    switch (queueIndex) {
      case INFLATE: {
        const pages = reader.copy(Math.min(reader.availableBytes, MAX_PAGES * 4)) ?? new Uint8Array();
        const view = new DataView(pages.buffer, pages.byteOffset, pages.byteLength);
        for (let at = 0; at + 4 <= view.byteLength; at += 4) {
          this.#backend.releaseRange(view.getUint32(at, true) * PAGE_BYTES, PAGE_BYTES);
        }
        return;
      }
      case DEFLATE:
        // The pages come back when the guest touches them.
        return;
      case REPORTING:
        // §5.5.6.7: the buffers are the free pages themselves
        for (const view of writer.views(writer.availableBytes)) this.#backend.releaseView(view);
    }
  }
}
