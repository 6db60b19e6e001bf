/**
 * virtio console (virtio 1.2 §5.3) with one port: a terminal that moves whole buffers where the serial port moves bytes,
 * and knows the size of its window.
 *
 * The guest controls the buffers. Output that the host has no room for stays in the guest's buffer until it has; input
 * that the guest has no buffer for stays with the host.
 *
 * @module
 */

import { VIRTIO_ID_CONSOLE } from "../src/virtio/abi.ts";
import type { ActiveContext, VirtioDevice } from "../src/virtio/device.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";

export const VIRTIO_CONSOLE_F_SIZE = 1n << 0n;

const QUEUE_SIZE = 64;
const RECEIVE = 0;
const TRANSMIT = 1;
/** Most that one buffer of the guest is filled with. */
const MAX_INPUT_BYTES = 4096;

/** The host's end of the terminal. */
export interface ConsoleBackend {
  /** window size in characters */
  readonly size: { readonly cols: number; readonly rows: number };
  /** takes at most `maxBytes` that were typed; empty if nothing waits */
  takeInput(maxBytes: number): Uint8Array;
  /** takes what there is room for; returns how many bytes */
  output(bytes: Uint8Array): number;
}

/** Output of the guest that is not with the host yet. */
interface Pending {
  views: Uint8Array[];
  giveBack: () => void;
}

/** The console. */
export class VirtioConsole implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_CONSOLE;
  readonly features: bigint = VIRTIO_CONSOLE_F_SIZE;
  readonly queueSizes: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE];
  readonly #backend: ConsoleBackend;
  #toGuest: DeviceQueue | undefined;
  #toHost: DeviceQueue | undefined;
  #pending: Pending | undefined;
  #configChanged: () => void = () => {};
  #announced = "";

  constructor(backend: ConsoleBackend) {
    this.#backend = backend;
  }

  /** `struct virtio_console_config`: cols, rows, max_nr_ports, emerg_wr */
  config(): Uint8Array {
    const view = new DataView(new ArrayBuffer(12));
    view.setUint16(0, this.#backend.size.cols, true);
    view.setUint16(2, this.#backend.size.rows, true);
    view.setUint32(4, 1, true);
    return new Uint8Array(view.buffer);
  }

  activate({ queues, configChanged }: ActiveContext): void {
    this.#toGuest = queues[RECEIVE];
    this.#toHost = queues[TRANSMIT];
    this.#configChanged = configChanged;
    this.#announced = this.#sizeText();
  }

  notify(queueIndex: number): boolean {
    return queueIndex === RECEIVE ? this.#receive() : this.#transmit();
  }

  /**
   * Something changed at the host's end: input came, output was taken, the window has another size. Returns true if work
   * is left for a further call.
   */
  pump(): boolean {
    if (this.#announced !== this.#sizeText()) {
      this.#announced = this.#sizeText();
      this.#configChanged();
    }
    const left = [this.#receive(), this.#transmit()];
    return left.includes(true);
  }

  reset(): void {
    this.#toGuest = undefined;
    this.#toHost = undefined;
    this.#pending = undefined;
    this.#configChanged = () => {};
  }

  #sizeText(): string {
    const { cols, rows } = this.#backend.size;
    return `${cols}x${rows}`;
  }

  #receive(): boolean {
    const queue = this.#toGuest;
    if (queue === undefined) return false;
    try {
      for (let left = QUEUE_SIZE; left > 0; left--) {
        const chain = queue.pop();
        if (chain === undefined) {
          if (queue.enableNotify()) continue;
          return false;
        }
        const room = Math.min(chain.writer.availableBytes, MAX_INPUT_BYTES);
        const input = this.#backend.takeInput(room);
        if (input.byteLength === 0 && room > 0) {
          queue.undoPop();
          return false;
        }
        chain.writer.write(input);
        queue.push(chain);
      }
      return true;
    } finally {
      queue.flush();
    }
  }

  #transmit(): boolean {
    if (!this.#writePending()) return false;
    const left = this.#toHost?.drainLater(({ reader }, giveBack) => {
      this.#pending = { views: reader.views(reader.availableBytes), giveBack };
      this.#writePending();
    }, () => this.#pending === undefined) ?? false;
    this.#toHost?.flush();
    return left && this.#pending === undefined;
  }

  /** True if nothing is pending any more. */
  #writePending(): boolean {
    const pending = this.#pending;
    if (pending === undefined) return true;
    for (let view = pending.views[0]; view !== undefined; view = pending.views[0]) {
      const taken = this.#backend.output(view);
      if (taken < view.byteLength) {
        pending.views[0] = view.subarray(taken);
        return false;
      }
      pending.views.shift();
    }
    this.#pending = undefined;
    pending.giveBack();
    return true;
  }
}
