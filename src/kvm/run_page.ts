/**
 * The `kvm_run` page of a vCPU: what the kernel tells of an exit, and the answer. One view, constant offsets: this is
 * read for every exit.
 *
 * @module
 */

import { KVM_RUN_OFFSETS as at } from "./structs.ts";

/** The shared page of one vCPU. */
export class RunPage {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;

  constructor(buffer: ArrayBuffer) {
    this.#view = new DataView(buffer);
    this.#bytes = new Uint8Array(buffer);
  }

  get exitReason(): number {
    return this.#view.getUint32(at.exit_reason, true);
  }

  /** Makes KVM_RUN return EINTR at once. Written by one thread and read by the kernel in another. */
  set immediateExit(value: boolean) {
    this.#view.setUint8(at.immediate_exit, value ? 1 : 0);
  }

  get ioDirection(): number {
    return this.#view.getUint8(at["io.direction"]);
  }

  get ioSize(): number {
    return this.#view.getUint8(at["io.size"]);
  }

  get ioPort(): number {
    return this.#view.getUint16(at["io.port"], true);
  }

  /** Repetitions of a string instruction; 1 otherwise. */
  get ioCount(): number {
    return this.#view.getUint32(at["io.count"], true);
  }

  /** The value of repetition `index` of an OUT. */
  ioValue(index: number): number {
    return this.#readSized(this.#ioOffset(index), this.ioSize);
  }

  /** Answers repetition `index` of an IN. */
  setIoValue(index: number, value: number): void {
    this.#writeSized(this.#ioOffset(index), this.ioSize, value);
  }

  get mmioAddr(): number {
    return this.#view.getUint32(at["mmio.phys_addr"], true) +
      this.#view.getUint32(at["mmio.phys_addr"] + 4, true) * 2 ** 32;
  }

  get mmioSize(): number {
    return this.#view.getUint32(at["mmio.len"], true);
  }

  get mmioIsWrite(): boolean {
    return this.#view.getUint8(at["mmio.is_write"]) !== 0;
  }

  get mmioValue(): number {
    return this.#readSized(at["mmio.data"], this.mmioSize);
  }

  set mmioValue(value: number) {
    this.#writeSized(at["mmio.data"], this.mmioSize, value);
  }

  get failEntryReason(): bigint {
    return this.#view.getBigUint64(at["fail_entry.hardware_entry_failure_reason"], true);
  }

  get internalSuberror(): number {
    return this.#view.getUint32(at["internal.suberror"], true);
  }

  /** What KVM adds to an internal error: for a failed emulation, flags and the instruction's bytes. */
  get internalData(): string {
    const count = Math.min(this.#view.getUint32(at["internal.ndata"], true), 16);
    const bytes = this.#bytes.subarray(at["internal.data"], at["internal.data"] + count * 8);
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  }

  get systemEventType(): number {
    return this.#view.getUint32(at["system_event.type"], true);
  }

  #ioOffset(index: number): number {
    // KVM keeps the data inside the mapped pages; DataView throws if it ever did not.
    return this.#view.getUint32(at["io.data_offset"], true) + index * this.ioSize;
  }

  #readSized(offset: number, size: number): number {
    switch (size) {
      case 1:
        return this.#view.getUint8(offset);
      case 2:
        return this.#view.getUint16(offset, true);
      case 4:
        return this.#view.getUint32(offset, true);
      default:
        return this.#view.getUint32(offset, true) + this.#view.getUint32(offset + 4, true) * 2 ** 32;
    }
  }

  #writeSized(offset: number, size: number, value: number): void {
    switch (size) {
      case 1:
        return this.#view.setUint8(offset, value);
      case 2:
        return this.#view.setUint16(offset, value, true);
      case 4:
        return this.#view.setUint32(offset, value, true);
      default:
        this.#view.setUint32(offset, value, true);
        this.#view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
    }
  }
}
