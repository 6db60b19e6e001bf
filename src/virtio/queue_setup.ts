/**
 * What a driver says of one queue before it is used (virtio 1.2 §4.2.2, §4.2.3.2): its registers of a virtio-mmio device.
 *
 * @module
 */

import * as abi from "./abi.ts";
import type { QueueLayout } from "./split_queue.ts";

/** The registers of one queue: any values, until a queue is built from them. */
export class QueueSetup {
  /** the driver says that all is set */
  ready = false;
  #size = 0;
  readonly #desc = { low: 0, high: 0 };
  readonly #avail = { low: 0, high: 0 };
  readonly #used = { low: 0, high: 0 };

  /** Writes the register at `offset`; false if it is not one of a queue's. */
  write(offset: number, value: number): boolean {
    switch (offset) {
      case abi.VIRTIO_MMIO_QUEUE_NUM:
        this.#size = value;
        return true;
      case abi.VIRTIO_MMIO_QUEUE_DESC_LOW:
        this.#desc.low = value;
        return true;
      case abi.VIRTIO_MMIO_QUEUE_DESC_HIGH:
        this.#desc.high = value;
        return true;
      case abi.VIRTIO_MMIO_QUEUE_AVAIL_LOW:
        this.#avail.low = value;
        return true;
      case abi.VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        this.#avail.high = value;
        return true;
      case abi.VIRTIO_MMIO_QUEUE_USED_LOW:
        this.#used.low = value;
        return true;
      case abi.VIRTIO_MMIO_QUEUE_USED_HIGH:
        this.#used.high = value;
        return true;
      default:
        return false;
    }
  }

  /** What the registers say: nothing of it is proven. */
  layout(eventIdx: boolean): QueueLayout {
    return {
      size: this.#size,
      descAddr: join(this.#desc),
      availAddr: join(this.#avail),
      usedAddr: join(this.#used),
      eventIdx,
    };
  }
}

function join(address: { readonly low: number; readonly high: number }): number {
  return address.low + address.high * 2 ** 32;
}
