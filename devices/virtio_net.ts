/**
 * virtio network device (virtio 1.2 §5.1): pairs of a receive and a transmit queue, and with more than one pair a control
 * queue, over a packet backend whose packets carry the same header (a TAP with IFF_VNET_HDR).
 *
 * The guest controls the frames and the headers before them; the host's kernel parses both, as for any TAP. A frame
 * longer than `MAX_FRAME_BYTES` is dropped here. What the guest may be sent (packets without checksums, or of several
 * segments) is what it negotiated; over how many pairs, what it asked for on the control queue (`net_control.ts`).
 *
 * @module
 */

import { VIRTIO_ID_NET } from "../src/virtio/abi.ts";
import type { ActiveContext, VirtioDevice } from "../src/virtio/device.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";
import { type NetCommand, parseNetCommand, VIRTIO_NET_ERR, VIRTIO_NET_OK } from "./net_control.ts";
import * as net from "./net_features.ts";
import { NET_QUEUE_SIZE, type NetLink, NetQueuePair, type PacketQueue } from "./net_queue_pair.ts";
import { RateGate, type RateLimiter } from "./rate_limiter.ts";

const VIRTIO_NET_S_LINK_UP = 1;
/** Each command may have the host's kernel do a lot: few at once. */
const CONTROL_QUEUE_SIZE = 16;

/** The host's end of the link. */
export interface NetBackend {
  /** bits of {@linkcode net.OFFLOAD} that the host can do */
  readonly offloads: number;
  /** one for each pair of queues: the first is always in use */
  readonly queues: readonly PacketQueue[];
  /** says which offloads packets for the guest may need */
  setOffloads(offloads: number): void;
  /** spreads packets for the guest over the first `count` queues and no others; false if the host cannot */
  useQueues(count: number): boolean;
}

/** How a network device is offered. */
export interface NetOptions {
  /** the guest's address, 6 bytes */
  readonly mac: Uint8Array;
  /** largest packet that the guest should send, without link header, in bytes (default: the guest's own choice) */
  readonly mtu?: number | undefined;
  /** holds both directions together to a rate */
  readonly limiter?: RateLimiter | undefined;
  /** calls {@linkcode VirtioNet.resume} in this many `ms`; needed with a limiter */
  readonly wakeIn?: (delayMs: number) => void;
}

/** The network device. */
export class VirtioNet implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_NET;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly #backend: NetBackend;
  readonly #options: NetOptions;
  readonly #link: NetLink;
  readonly #pairs: readonly NetQueuePair[];
  /** pairs that packets for the guest go through */
  #pairsInUse = 1;
  /** pairs that the driver knows of */
  #pairCount = 1;
  #control: DeviceQueue | undefined;
  #configChanged: () => void = () => {};

  constructor(backend: NetBackend, options: NetOptions) {
    this.#backend = backend;
    this.#options = options;
    this.#link = { gate: new RateGate(options.limiter, options.wakeIn), up: true };
    this.#pairs = backend.queues.map((queue) => new NetQueuePair(queue, this.#link));
    const packetQueues = this.#pairs.flatMap(() => [NET_QUEUE_SIZE, NET_QUEUE_SIZE]);
    const hasControl = this.#pairs.length > 1;
    this.queueSizes = hasControl ? [...packetQueues, CONTROL_QUEUE_SIZE] : packetQueues;
    this.features = net.VIRTIO_NET_F_MAC | net.VIRTIO_NET_F_STATUS | net.VIRTIO_NET_F_MRG_RXBUF |
      net.offloadFeatures(backend.offloads) |
      (hasControl ? net.VIRTIO_NET_F_CTRL_VQ | net.VIRTIO_NET_F_MQ : 0n) |
      (options.mtu === undefined ? 0n : net.VIRTIO_NET_F_MTU);
  }

  /** `struct virtio_net_config`, §5.1.4 */
  config(): Uint8Array {
    const view = new DataView(new ArrayBuffer(12));
    new Uint8Array(view.buffer).set(this.#options.mac);
    view.setUint16(6, this.#link.up ? VIRTIO_NET_S_LINK_UP : 0, true);
    view.setUint16(8, this.#pairs.length > 1 ? this.#pairs.length : 0, true); // max_virtqueue_pairs
    view.setUint16(10, this.#options.mtu ?? 0, true);
    return new Uint8Array(view.buffer);
  }

  activate({ features, queues, configChanged }: ActiveContext): void {
    this.#configChanged = configChanged;
    this.#backend.setOffloads(net.guestOffloads(features));
    // §5.1.3.1: many pairs need the control queue, which comes behind all pairs that the driver knows of (§5.1.2).
    const hasControl = (features & net.VIRTIO_NET_F_CTRL_VQ) !== 0n;
    this.#pairCount = hasControl && (features & net.VIRTIO_NET_F_MQ) !== 0n ? this.#pairs.length : 1;
    this.#control = hasControl ? queues[2 * this.#pairCount] : undefined;
    const mergeable = (features & net.VIRTIO_NET_F_MRG_RXBUF) !== 0n;
    const longestBytes = net.longestForGuest(features);
    this.#pairs.slice(0, this.#pairCount).forEach((pair, index) => {
      pair.start({ toGuest: queues[2 * index], toHost: queues[2 * index + 1], mergeable, longestBytes });
    });
  }

  notify(queueIndex: number): boolean {
    const pairIndex = Math.floor(queueIndex / 2);
    if (pairIndex >= this.#pairCount) return queueIndex === 2 * this.#pairCount && this.#serveControl();
    if (queueIndex % 2 === 0) {
      this.receivePackets(pairIndex);
      return false;
    }
    // What the driver left in a pair that it stopped using goes out nevertheless.
    const packets = this.#backend.queues[pairIndex < this.#pairsInUse ? pairIndex : 0];
    return this.#pairs[pairIndex]?.send(packets) ?? false;
  }

  /** Moves packets that wait in a queue of the backend into the guest. */
  receivePackets(pairIndex: number): void {
    if (pairIndex < this.#pairsInUse) this.#pairs[pairIndex]?.receive();
  }

  /** The time that `wakeIn` was asked for is over. */
  resume(): void {
    this.#link.gate.reopen(2 * this.#pairCount, (queueIndex) => this.notify(queueIndex));
  }

  /** Plugs the cable in or out, and tells the driver (§5.1.4.1). */
  setLink(up: boolean): void {
    if (up === this.#link.up) return;
    this.#link.up = up;
    this.#configChanged();
  }

  reset(): void {
    for (const pair of this.#pairs) pair.stop();
    this.#control = undefined;
    this.#pairCount = 1;
    this.#pairsInUse = 1;
    this.#backend.useQueues(1);
    this.#configChanged = () => {};
  }

  #serveControl(): boolean {
    return this.#control?.drain(({ reader, writer }) => {
      // A command that cannot be answered is not one.
      if (writer.availableBytes === 0) return;
      const done = this.#execute(parseNetCommand(reader));
      writer.write(Uint8Array.of(done ? VIRTIO_NET_OK : VIRTIO_NET_ERR));
    }) ?? false;
  }

  #execute(command: NetCommand): boolean {
    switch (command.kind) {
      case "set_pairs":
        return this.#setPairs(command.pairCount);
      case "unsupported":
        return false;
    }
  }

  /** §5.1.6.5.5: packets for the guest come through the first `count` pairs from now on. */
  #setPairs(count: number): boolean {
    const wanted = this.#pairs.slice(0, count);
    if (count < 1 || count > this.#pairCount || !wanted.every(({ isComplete }) => isComplete)) return false;
    const before = this.#pairsInUse;
    if (count === before) return true;
    if (!this.#backend.useQueues(count)) return false;
    this.#pairsInUse = count;
    // Their buffers may have been there before: nobody would notify of them.
    for (let index = before; index < count; index++) this.receivePackets(index);
    return true;
  }
}
