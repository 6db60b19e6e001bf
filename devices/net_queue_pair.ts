/**
 * One receive and one transmit queue of a network device, and the queue of packets behind them on the host
 * (virtio 1.2 §5.1.6.2, §5.1.6.3). Packets are never touched in JavaScript.
 *
 * @module
 */

import type { DeviceQueue } from "../src/virtio/device_queue.ts";
import { MAX_FRAME_BYTES, NET_HEADER_BYTES } from "./net_features.ts";
import type { RateGate } from "./rate_limiter.ts";
import { ReceiveBuffers } from "./receive_buffers.ts";

/** Largest size of either queue. */
export const NET_QUEUE_SIZE = 256;

/** Where packets go and come from, each with its {@linkcode NET_HEADER_BYTES} header in front. */
export interface PacketQueue {
  /** fills `views` with the next packet; its length, or `undefined` if none waits */
  receive(views: Uint8Array<ArrayBuffer>[]): number | undefined;
  /** sends one packet; what the host cannot take is dropped, as on a wire */
  send(views: Uint8Array<ArrayBuffer>[]): void;
  /** whether to tell the device of packets that wait, again and again while they do */
  wantPackets(wanted: boolean): void;
}

/** What all pairs of a device have in common. */
export interface NetLink {
  readonly gate: RateGate;
  /** the cable is plugged in */
  up: boolean;
}

/** What a pair gets when the driver is ready. */
export interface NetPairSetup {
  readonly toGuest: DeviceQueue | undefined;
  readonly toHost: DeviceQueue | undefined;
  /** see {@link ReceiveBuffers} */
  readonly mergeable: boolean;
  /** see {@link ReceiveBuffers} */
  readonly longestBytes: number;
}

/** A pair of queues. */
export class NetQueuePair {
  readonly #packets: PacketQueue;
  readonly #link: NetLink;
  #toGuest: DeviceQueue | undefined;
  #buffers: ReceiveBuffers | undefined;
  #toHost: DeviceQueue | undefined;

  constructor(packets: PacketQueue, link: NetLink) {
    this.#packets = packets;
    this.#link = link;
  }

  /** Takes over its queues. */
  start({ toGuest, toHost, mergeable, longestBytes }: NetPairSetup): void {
    this.#toGuest = toGuest;
    this.#buffers = toGuest && new ReceiveBuffers(toGuest, mergeable, longestBytes);
    this.#toHost = toHost;
  }

  /** Forgets its queues. */
  stop(): void {
    this.#toGuest = undefined;
    this.#buffers = undefined;
    this.#toHost = undefined;
    this.#packets.wantPackets(false);
  }

  /** the driver set both queues up */
  get isComplete(): boolean {
    return this.#toGuest !== undefined && this.#toHost !== undefined;
  }

  /** Moves waiting packets into the guest, until one of the two sides has no more or others should have their turn. */
  receive(): void {
    const { gate } = this.#link;
    try {
      for (let left = NET_QUEUE_SIZE; left > 0 && gate.mayStart(); left--) {
        const views = this.#buffers?.views();
        // Out of buffers: packets wait in the backend until the driver notifies of more.
        if (views === undefined) return this.#packets.wantPackets(false);
        const sizeBytes = this.#packets.receive(views);
        if (sizeBytes === undefined) break;
        if (!this.#link.up) continue; // lost, as on a cable that is not plugged in
        gate.charge(sizeBytes - NET_HEADER_BYTES);
        this.#buffers?.commit(sizeBytes);
      }
      this.#packets.wantPackets(!gate.closed);
    } finally {
      this.#toGuest?.flush();
    }
  }

  /** Sends what the driver made available, through `packets`. Returns true if some is left. */
  send(packets: PacketQueue = this.#packets): boolean {
    const { gate } = this.#link;
    const left = this.#toHost?.drainLater(({ reader }, giveBack) => {
      const sizeBytes = reader.availableBytes;
      if (sizeBytes > NET_HEADER_BYTES && sizeBytes <= MAX_FRAME_BYTES && this.#link.up) {
        gate.charge(sizeBytes - NET_HEADER_BYTES);
        packets.send(reader.views(sizeBytes));
      }
      giveBack();
    }, () => gate.mayStart()) ?? false;
    return left && !gate.closed;
  }
}
