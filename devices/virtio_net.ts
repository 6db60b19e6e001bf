/**
 * virtio network device (virtio 1.2 §5.1): one receive and one transmit queue over a packet backend whose packets
 * carry the same header (a TAP with IFF_VNET_HDR), so that packets are never touched in JavaScript.
 *
 * The guest controls the frames and the headers before them; the host's kernel parses both, as for any TAP. A frame
 * longer than {@linkcode MAX_FRAME_BYTES} is dropped here. Receive buffers that are too small cut the frame: the
 * backend reports how much it wrote.
 *
 * @module
 */

import { VIRTIO_ID_NET } from "../src/virtio/abi.ts";
import type { ActiveContext, VirtioDevice } from "../src/virtio/device.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";

// linux/virtio_net.h
export const VIRTIO_NET_F_CSUM = 1n << 0n;
export const VIRTIO_NET_F_MAC = 1n << 5n;
export const VIRTIO_NET_F_HOST_TSO4 = 1n << 11n;
export const VIRTIO_NET_F_HOST_TSO6 = 1n << 12n;

/** `struct virtio_net_hdr_v1`: always there, with num_buffers, under VERSION_1 (§5.1.6.1) */
export const NET_HEADER_BYTES = 12;
/** A 64 KiB segment for the host to cut, with its link header. */
const MAX_FRAME_BYTES = NET_HEADER_BYTES + 14 + 65_535;
const QUEUE_SIZE = 256;
const RECEIVE = 0;
const TRANSMIT = 1;

/** Where packets go and come from, each with its {@linkcode NET_HEADER_BYTES} header in front. */
export interface PacketBackend {
  /** fills `views` with the next packet; its length, or `undefined` if none waits */
  receive(views: Uint8Array<ArrayBuffer>[]): number | undefined;
  /** sends one packet; what the host cannot take is dropped, as on a wire */
  send(views: Uint8Array<ArrayBuffer>[]): void;
  /** whether to tell the device of packets that wait */
  wantPackets(wanted: boolean): void;
}

/** The network device. */
export class VirtioNet implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_NET;
  readonly features: bigint = VIRTIO_NET_F_MAC | VIRTIO_NET_F_CSUM | VIRTIO_NET_F_HOST_TSO4 |
    VIRTIO_NET_F_HOST_TSO6;
  readonly queueSizes: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE];
  readonly #backend: PacketBackend;
  readonly #mac: Uint8Array;
  #toGuest: DeviceQueue | undefined;
  #toHost: DeviceQueue | undefined;

  /** `mac` is the guest's address, 6 bytes. */
  constructor(backend: PacketBackend, mac: Uint8Array) {
    this.#backend = backend;
    this.#mac = mac;
  }

  /** `struct virtio_net_config`: the address only */
  config(): Uint8Array {
    return this.#mac;
  }

  activate({ queues }: ActiveContext): void {
    this.#toGuest = queues[RECEIVE];
    this.#toHost = queues[TRANSMIT];
    this.receivePackets();
    this.notify(TRANSMIT);
  }

  notify(queueIndex: number): boolean {
    if (queueIndex === RECEIVE) return this.receivePackets();
    return this.#toHost?.drain(({ reader }) => {
      const sizeBytes = reader.availableBytes;
      if (sizeBytes > NET_HEADER_BYTES && sizeBytes <= MAX_FRAME_BYTES) {
        this.#backend.send(reader.views(sizeBytes));
      }
    }) ?? false;
  }

  /** Moves waiting packets into the guest, until one of the two sides has no more. Returns true if packets are left. */
  receivePackets(): boolean {
    const queue = this.#toGuest;
    if (queue === undefined) {
      this.#backend.wantPackets(false);
      return false;
    }
    try {
      for (let left = QUEUE_SIZE; left > 0; left--) {
        const chain = queue.pop();
        if (chain === undefined) {
          // Out of buffers: packets wait in the backend until the driver notifies of more.
          if (queue.enableNotify()) continue;
          this.#backend.wantPackets(false);
          return false;
        }
        const views = chain.writer.views(MAX_FRAME_BYTES);
        const sizeBytes = this.#backend.receive(views);
        if (sizeBytes === undefined) {
          queue.undoPop();
          this.#backend.wantPackets(true);
          return false;
        }
        writeBufferCount(views);
        chain.writer.advance(sizeBytes);
        queue.push(chain);
      }
      return true;
    } finally {
      queue.flush();
    }
  }

  reset(): void {
    this.#toGuest = undefined;
    this.#toHost = undefined;
    this.#backend.wantPackets(false);
  }
}

/** num_buffers, the last field of the header, is 1 where mergeable buffers were not negotiated (§5.1.6.4.1). */
function writeBufferCount(views: Uint8Array<ArrayBuffer>[]): void {
  let offset = NET_HEADER_BYTES - 2;
  for (const view of views) {
    if (offset < view.byteLength) {
      view[offset] = 1;
      return;
    }
    offset -= view.byteLength;
  }
}
