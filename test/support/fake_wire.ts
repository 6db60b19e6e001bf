/**
 * A network device's backend in plain memory: tests put packets in and see what comes out.
 *
 * @module
 */

import { NET_HEADER_BYTES } from "../../devices/net_features.ts";
import type { PacketQueue } from "../../devices/net_queue_pair.ts";
import type { NetBackend } from "../../devices/virtio_net.ts";

/** A frame of `sizeBytes` with an empty header in front. */
export function frame(sizeBytes: number): Uint8Array {
  return new Uint8Array(NET_HEADER_BYTES + sizeBytes).fill(7, NET_HEADER_BYTES);
}

/** One queue of packets. */
export class FakeWireQueue implements PacketQueue {
  waiting: Uint8Array[] = [];
  sent: number[][] = [];
  wanted = false;

  receive(views: Uint8Array[]): number | undefined {
    const packet = this.waiting.shift();
    if (packet === undefined) return undefined;
    let done = 0;
    for (const view of views) {
      const part = packet.subarray(done, done + view.byteLength);
      view.set(part);
      done += part.byteLength;
    }
    return done;
  }

  send(views: Uint8Array[]): void {
    this.sent.push(views.flatMap((view) => [...view]));
  }

  wantPackets(wanted: boolean): void {
    this.wanted = wanted;
  }
}

/** The backend, with as many queues as asked for. */
export class FakeWire implements NetBackend {
  readonly offloads = 0x1f;
  offloadsSet = -1;
  /** what the device asked for, oldest first */
  readonly uses: number[] = [];
  /** the host refuses to use other queues */
  refuses = false;
  readonly first = new FakeWireQueue();
  readonly queues: readonly FakeWireQueue[];

  constructor(queueCount = 1) {
    this.queues = [this.first, ...Array.from({ length: queueCount - 1 }, () => new FakeWireQueue())];
  }

  setOffloads(offloads: number): void {
    this.offloadsSet = offloads;
  }

  useQueues(count: number): boolean {
    if (this.refuses) return false;
    this.uses.push(count);
    return true;
  }
}
