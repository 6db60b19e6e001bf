/**
 * What a virtio device is to its transport, and what the transport gives it.
 *
 * @module
 */

import type { DeviceQueue } from "./device_queue.ts";

/** What a device gets when the driver sets DRIVER_OK. */
export interface ActiveContext {
  /** negotiated feature bits */
  readonly features: bigint;
  /** one per queue; `undefined` where the driver did not set the queue up */
  readonly queues: readonly (DeviceQueue | undefined)[];
  /** tells the driver that the configuration space changed */
  configChanged(): void;
}

/**
 * A device behind a transport. All methods are called by one thread. A {@link QueueError} that leaves `activate`
 * or `notify` stops the device until the driver resets it.
 */
export interface VirtioDevice {
  /** virtio 1.2 §5 */
  readonly deviceId: number;
  /** device-specific feature bits; the transport adds VERSION_1, INDIRECT_DESC and EVENT_IDX */
  readonly features: bigint;
  /** largest size of each queue */
  readonly queueSizes: readonly number[];
  /** the configuration space as the driver reads it */
  config(): Uint8Array;
  /** the driver is ready: queues may be used from now on. {@linkcode notify} follows for each that was set up */
  activate(context: ActiveContext): void;
  /** the driver made chains available in a queue. Returns true if work is left for a further call. */
  notify(queueIndex: number): boolean;
  /** forgets everything of the driver; queues are gone */
  reset(): void;
}
