/**
 * virtio network device (virtio 1.2 §5.1): one receive and one transmit queue over a packet backend whose packets
 * carry the same header (a TAP with IFF_VNET_HDR), so that packets are never touched in JavaScript.
 *
 * The guest controls the frames and the headers before them; the host's kernel parses both, as for any TAP. A frame
 * longer than {@linkcode MAX_FRAME_BYTES} is dropped here. What the guest may be sent (packets without checksums, or
 * of several segments) is what it negotiated.
 *
 * @module
 */

import { VIRTIO_ID_NET } from "../src/virtio/abi.ts";
import type { ActiveContext, VirtioDevice } from "../src/virtio/device.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";
import { RateGate, type RateLimiter } from "./rate_limiter.ts";
import { ReceiveBuffers } from "./receive_buffers.ts";

// linux/virtio_net.h
export const VIRTIO_NET_F_CSUM = 1n << 0n;
export const VIRTIO_NET_F_GUEST_CSUM = 1n << 1n;
export const VIRTIO_NET_F_MTU = 1n << 3n;
export const VIRTIO_NET_F_MAC = 1n << 5n;
export const VIRTIO_NET_F_GUEST_TSO4 = 1n << 7n;
export const VIRTIO_NET_F_GUEST_TSO6 = 1n << 8n;
export const VIRTIO_NET_F_GUEST_ECN = 1n << 9n;
export const VIRTIO_NET_F_GUEST_UFO = 1n << 10n;
export const VIRTIO_NET_F_HOST_TSO4 = 1n << 11n;
export const VIRTIO_NET_F_HOST_TSO6 = 1n << 12n;
export const VIRTIO_NET_F_HOST_ECN = 1n << 13n;
export const VIRTIO_NET_F_HOST_UFO = 1n << 14n;
export const VIRTIO_NET_F_MRG_RXBUF = 1n << 15n;
export const VIRTIO_NET_F_STATUS = 1n << 16n;
const VIRTIO_NET_S_LINK_UP = 1;

/** `struct virtio_net_hdr_v1`: always there, with num_buffers, under VERSION_1 (§5.1.6.1) */
export const NET_HEADER_BYTES = 12;
/** A 64 KiB segment for the host to cut, with its link header. */
const MAX_FRAME_BYTES = NET_HEADER_BYTES + 14 + 65_535;
/** A frame for a guest that takes no segments: the largest that links carry ("jumbo"), with its link header. */
const MAX_WHOLE_FRAME_BYTES = NET_HEADER_BYTES + 18 + 9000;
/** With these the guest may be sent what is longer than a frame. */
const SEGMENTS = VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_GUEST_UFO;
const QUEUE_SIZE = 256;
const RECEIVE = 0;
const TRANSMIT = 1;

/** What a packet for the guest may leave to it; the numbers are those of linux/if_tun.h (TUN_F_…). */
export const OFFLOAD = { csum: 1, tso4: 2, tso6: 4, ecn: 8, ufo: 16 } as const;

/** Each offload: the feature with which the guest takes it, and that with which the host does. */
const OFFLOAD_FEATURES = [
  { flag: OFFLOAD.csum, guest: VIRTIO_NET_F_GUEST_CSUM, host: VIRTIO_NET_F_CSUM },
  { flag: OFFLOAD.tso4, guest: VIRTIO_NET_F_GUEST_TSO4, host: VIRTIO_NET_F_HOST_TSO4 },
  { flag: OFFLOAD.tso6, guest: VIRTIO_NET_F_GUEST_TSO6, host: VIRTIO_NET_F_HOST_TSO6 },
  { flag: OFFLOAD.ecn, guest: VIRTIO_NET_F_GUEST_ECN, host: VIRTIO_NET_F_HOST_ECN },
  { flag: OFFLOAD.ufo, guest: VIRTIO_NET_F_GUEST_UFO, host: VIRTIO_NET_F_HOST_UFO },
] as const;

/** Where packets go and come from, each with its {@linkcode NET_HEADER_BYTES} header in front. */
export interface PacketBackend {
  /** bits of {@linkcode OFFLOAD} that the host can do */
  readonly offloads: number;
  /** says which of them packets for the guest may need */
  setOffloads(offloads: number): void;
  /** fills `views` with the next packet; its length, or `undefined` if none waits */
  receive(views: Uint8Array<ArrayBuffer>[]): number | undefined;
  /** sends one packet; what the host cannot take is dropped, as on a wire */
  send(views: Uint8Array<ArrayBuffer>[]): void;
  /** whether to tell the device of packets that wait */
  wantPackets(wanted: boolean): void;
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
  readonly queueSizes: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE];
  readonly #backend: PacketBackend;
  readonly #options: NetOptions;
  readonly #gate: RateGate;
  #toGuest: DeviceQueue | undefined;
  #buffers: ReceiveBuffers | undefined;
  #toHost: DeviceQueue | undefined;
  #configChanged: () => void = () => {};
  #linkUp = true;

  constructor(backend: PacketBackend, options: NetOptions) {
    this.#backend = backend;
    this.#options = options;
    this.#gate = new RateGate(options.limiter, options.wakeIn);
    const offloads = OFFLOAD_FEATURES.filter(({ flag }) => (backend.offloads & flag) !== 0)
      .reduce((features, { guest, host }) => features | guest | host, 0n);
    this.features = VIRTIO_NET_F_MAC | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_MRG_RXBUF | offloads |
      (options.mtu === undefined ? 0n : VIRTIO_NET_F_MTU);
  }

  /** `struct virtio_net_config`, §5.1.4 */
  config(): Uint8Array {
    const view = new DataView(new ArrayBuffer(12));
    new Uint8Array(view.buffer).set(this.#options.mac);
    view.setUint16(6, this.#linkUp ? VIRTIO_NET_S_LINK_UP : 0, true);
    view.setUint16(10, this.#options.mtu ?? 0, true);
    return new Uint8Array(view.buffer);
  }

  activate({ features, queues, configChanged }: ActiveContext): void {
    this.#configChanged = configChanged;
    this.#backend.setOffloads(guestOffloads(features));
    const toGuest = queues[RECEIVE];
    this.#toGuest = toGuest;
    const mergeable = (features & VIRTIO_NET_F_MRG_RXBUF) !== 0n;
    const longestBytes = (features & SEGMENTS) === 0n ? MAX_WHOLE_FRAME_BYTES : MAX_FRAME_BYTES;
    this.#buffers = toGuest && new ReceiveBuffers(toGuest, mergeable, longestBytes);
    this.#toHost = queues[TRANSMIT];
    this.receivePackets();
    this.notify(TRANSMIT);
  }

  notify(queueIndex: number): boolean {
    if (queueIndex === RECEIVE) return this.receivePackets();
    const left = this.#toHost?.drainLater(({ reader }, giveBack) => {
      const sizeBytes = reader.availableBytes;
      if (sizeBytes > NET_HEADER_BYTES && sizeBytes <= MAX_FRAME_BYTES && this.#linkUp) {
        this.#gate.charge(sizeBytes - NET_HEADER_BYTES);
        this.#backend.send(reader.views(sizeBytes));
      }
      giveBack();
    }, () => this.#gate.mayStart()) ?? false;
    return left && !this.#gate.closed;
  }

  /** Moves waiting packets into the guest, until one of the two sides has no more. Returns true if packets are left. */
  receivePackets(): boolean {
    const buffers = this.#buffers;
    if (buffers === undefined || !this.#gate.mayStart()) {
      this.#backend.wantPackets(false);
      return false;
    }
    try {
      for (let left = QUEUE_SIZE; left > 0 && this.#gate.mayStart(); left--) {
        const views = buffers.views();
        if (views === undefined) {
          // Out of buffers: packets wait in the backend until the driver notifies of more.
          this.#backend.wantPackets(false);
          return false;
        }
        const sizeBytes = this.#backend.receive(views);
        if (sizeBytes === undefined) {
          this.#backend.wantPackets(true);
          return false;
        }
        if (!this.#linkUp) continue; // lost, as on a cable that is not plugged in
        this.#gate.charge(sizeBytes - NET_HEADER_BYTES);
        buffers.commit(sizeBytes);
      }
      return !this.#gate.closed;
    } finally {
      this.#toGuest?.flush();
    }
  }

  /** The time that `wakeIn` was asked for is over. */
  resume(): void {
    this.#gate.reopen(() => [this.receivePackets(), this.notify(TRANSMIT)]);
  }

  /** Plugs the cable in or out, and tells the driver (§5.1.4.1). */
  setLink(up: boolean): void {
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    this.#configChanged();
  }

  reset(): void {
    this.#buffers = undefined;
    this.#configChanged = () => {};
    this.#toGuest = undefined;
    this.#toHost = undefined;
    this.#backend.wantPackets(false);
  }
}

/** What the guest takes; a feature without the one that it needs (§5.1.3.1) is as if it were not there. */
function guestOffloads(features: bigint): number {
  const offloads = OFFLOAD_FEATURES.filter(({ guest }) => (features & guest) !== 0n)
    .reduce((flags, { flag }) => flags | flag, 0);
  if ((offloads & OFFLOAD.csum) === 0) return 0;
  const segments = (offloads & (OFFLOAD.tso4 | OFFLOAD.tso6)) !== 0;
  return segments ? offloads : offloads & ~OFFLOAD.ecn;
}
