/**
 * virtio entropy device (virtio 1.2 §5.4): one queue, each buffer is filled with random bytes.
 *
 * The guest controls how much it asks for: a chain may name the same RAM many times and so claim 4 GiB, so what one
 * request gets is capped. Short answers are allowed (§5.4.6).
 *
 * @module
 */

import { VIRTIO_ID_RNG } from "../src/virtio/abi.ts";
import type { ActiveContext, VirtioDevice } from "../src/virtio/device.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";

/** Most bytes that one request gets. Without it a hostile guest makes the host draw 4 GiB of entropy a request. */
const MAX_ENTROPY_BYTES = 64 * 1024;

/** Where entropy comes from. */
export interface EntropySource {
  /** fills `bytes`, at most 64 KiB at once */
  fill(bytes: Uint8Array<ArrayBuffer>): void;
}

/** The entropy device. */
export class VirtioRng implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_RNG;
  readonly features = 0n;
  readonly queueSizes: readonly number[] = [64];
  readonly #source: EntropySource;
  #queue: DeviceQueue | undefined;

  constructor(source: EntropySource) {
    this.#source = source;
  }

  config(): Uint8Array {
    return new Uint8Array(0);
  }

  activate({ queues }: ActiveContext): void {
    this.#queue = queues[0];
  }

  notify(): boolean {
    return this.#queue?.drain(({ writer }) => {
      const bytes = new Uint8Array(Math.min(writer.availableBytes, MAX_ENTROPY_BYTES));
      this.#source.fill(bytes);
      writer.write(bytes);
    }) ?? false;
  }

  reset(): void {
    this.#queue = undefined;
  }
}
