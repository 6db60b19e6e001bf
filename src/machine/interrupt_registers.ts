/**
 * INTERRUPT_STATUS and INTERRUPT_ACK of every virtio device, answered by the vCPU itself: the guest touches both for
 * each interrupt, and the io thread may be busy (virtio 1.2 §4.2.2).
 *
 * @module
 */

import type { BusDevice } from "../bus/bus.ts";
import { VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INTERRUPT_STATUS } from "../virtio/abi.ts";
import { VIRTIO_MMIO_BYTES } from "./layout.ts";

/** The virtio window as a vCPU sees it: two registers here, the others behind `rest`. */
export class InterruptRegisters implements BusDevice {
  readonly #status: Int32Array<SharedArrayBuffer>;
  readonly #rest: BusDevice;

  /** `status` has one word a device. */
  constructor(status: Int32Array<SharedArrayBuffer>, rest: BusDevice) {
    this.#status = status;
    this.#rest = rest;
  }

  read(offset: number, size: number): number {
    if (offset % VIRTIO_MMIO_BYTES === VIRTIO_MMIO_INTERRUPT_STATUS && size === 4) {
      return Atomics.load(this.#status, Math.floor(offset / VIRTIO_MMIO_BYTES));
    }
    return this.#rest.read(offset, size);
  }

  write(offset: number, size: number, value: number): void {
    if (offset % VIRTIO_MMIO_BYTES === VIRTIO_MMIO_INTERRUPT_ACK && size === 4) {
      Atomics.and(this.#status, Math.floor(offset / VIRTIO_MMIO_BYTES), ~value);
      return;
    }
    this.#rest.write(offset, size, value);
  }
}
