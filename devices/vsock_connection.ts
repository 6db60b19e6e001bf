/**
 * One vsock stream between a guest port and a host port: its credit, its half-closes, and what of it waits to be
 * told to the guest (virtio 1.2 §5.10.6.3 to §5.10.6.6). It knows no queue: the device asks it for packets.
 *
 * @module
 */

import {
  VIRTIO_VSOCK_OP_CREDIT_UPDATE as CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_REQUEST as REQUEST,
  VIRTIO_VSOCK_OP_RESPONSE as RESPONSE,
  VIRTIO_VSOCK_OP_RST as RST,
  VIRTIO_VSOCK_OP_SHUTDOWN as SHUTDOWN,
  VIRTIO_VSOCK_SHUTDOWN_RCV as RCV,
  VIRTIO_VSOCK_SHUTDOWN_SEND as SEND,
  type VsockHeader,
} from "./vsock_packet.ts";

/** What the guest may send us before we have passed it on: also the most that a slow host makes us hold. */
export const RECEIVE_BUFFER_BYTES = 256 * 1024;

/** The host's end of a stream. Calls never block. */
export interface HostStream {
  /** fills `views`: bytes read, 0 at the end of the stream, `undefined` if nothing waits */
  read(views: Uint8Array<ArrayBuffer>[]): number | undefined;
  /** bytes taken (0 if the host cannot take any now), or `undefined` if the stream is broken */
  write(views: Uint8Array<ArrayBuffer>[]): number | undefined;
  /** the guest accepted: tells whoever asked for the stream */
  established(hostPort: number): void;
  shutdownWrite(): void;
  close(): void;
  /** which readiness to report to the device */
  watch(interest: { readable: boolean; writable: boolean }): void;
}

/** One stream. */
export class VsockConnection {
  readonly guestPort: number;
  readonly hostPort: number;
  readonly stream: HostStream;
  state: "requested" | "connected" | "closed";
  /** control packets that wait for a receive buffer, one of each kind at most */
  readonly pendingOps = new Set<number>();
  /** the host has bytes (or its end) for us */
  hostReadable = false;

  #peerBufAlloc = 0;
  #peerFwdCnt = 0;
  #sentBytes = 0;
  #forwardedBytes = 0;
  #reportedForwarded = 0;
  /** guest bytes that the host has not taken yet */
  #backlog: Uint8Array<ArrayBuffer>[] = [];
  #backlogBytes = 0;
  #hostEnded = false;
  /** shutdown flags of the guest */
  #guestShutdown = 0;

  constructor(ports: { guestPort: number; hostPort: number }, stream: HostStream, by: "guest" | "host") {
    this.guestPort = ports.guestPort;
    this.hostPort = ports.hostPort;
    this.stream = stream;
    this.state = by === "guest" ? "connected" : "requested";
    this.pendingOps.add(by === "guest" ? RESPONSE : REQUEST);
    this.#watch();
  }

  /** Bytes that the guest has room for. */
  get credit(): number {
    if (this.#hostEnded || this.state !== "connected" || (this.#guestShutdown & RCV) !== 0) return 0;
    return Math.max(0, this.#peerBufAlloc - ((this.#sentBytes - this.#peerFwdCnt) >>> 0));
  }

  /** Whether there is data to move to the guest now. */
  get wantsToSend(): boolean {
    return this.hostReadable && this.credit > 0;
  }

  /** Every packet of the guest carries its credit. */
  updateCredit({ bufAlloc, fwdCnt }: VsockHeader): void {
    this.#peerBufAlloc = bufAlloc;
    this.#peerFwdCnt = fwdCnt;
  }

  /** The guest accepted a stream that the host asked for. */
  accepted(): void {
    if (this.state !== "requested") return;
    this.state = "connected";
    this.stream.established(this.hostPort);
    this.#watch();
  }

  /** Payload from the guest. Returns false if the guest broke the rules or the host's end is broken: reset it. */
  receive(views: Uint8Array<ArrayBuffer>[], sizeBytes: number): boolean {
    if (this.state !== "connected" || (this.#guestShutdown & SEND) !== 0) return false;
    // §5.10.6.3: never more than the buffer that we said we have
    if (this.#backlogBytes + sizeBytes > RECEIVE_BUFFER_BYTES) return false;
    const taken = this.#backlogBytes === 0 ? this.stream.write(views) : 0;
    if (taken === undefined) return false;
    this.#forward(taken);
    let skip = taken;
    for (const view of views) {
      // What the host did not take is copied: the guest gets its buffer back.
      if (skip < view.byteLength) this.#keep(view.slice(skip));
      skip = Math.max(0, skip - view.byteLength);
    }
    this.#watch();
    return true;
  }

  /** The host can take bytes again. Returns false if its end is broken. */
  flushBacklog(): boolean {
    while (this.#backlogBytes > 0) {
      const taken = this.stream.write(this.#backlog.slice(0, 64));
      if (taken === undefined) return false;
      if (taken === 0) break;
      this.#forward(taken);
      this.#dropFromBacklog(taken);
    }
    if (this.#backlogBytes === 0 && (this.#guestShutdown & SEND) !== 0) this.stream.shutdownWrite();
    this.#watch();
    return true;
  }

  /** The guest will not send or receive any more. */
  guestShutdown(flags: number): void {
    this.#guestShutdown |= flags & (RCV | SEND);
    this.flushBacklog();
  }

  /** Both sides are done and all was passed on: answer with a reset (§5.10.6.5). */
  get finished(): boolean {
    const guestDone = (this.#guestShutdown & SEND) !== 0 && this.#backlogBytes === 0;
    return guestDone && (this.#hostEnded || (this.#guestShutdown & RCV) !== 0);
  }

  /** Reads from the host into `views`; the number of bytes, or `undefined` if there was nothing to send. */
  readHost(views: Uint8Array<ArrayBuffer>[]): number | undefined {
    const count = this.stream.read(views);
    if (count === undefined || count === 0) {
      this.hostReadable = false;
      if (count === 0) {
        this.#hostEnded = true;
        this.pendingOps.add(SHUTDOWN);
      }
      this.#watch();
      return undefined;
    }
    this.#sentBytes = (this.#sentBytes + count) >>> 0;
    return count;
  }

  /** Header fields of a packet about to be sent; sending tells the guest our credit. */
  headerFields(): { bufAlloc: number; fwdCnt: number; flags: number } {
    this.#reportedForwarded = this.#forwardedBytes;
    this.pendingOps.delete(CREDIT_UPDATE);
    return { bufAlloc: RECEIVE_BUFFER_BYTES, fwdCnt: this.#forwardedBytes, flags: 0 };
  }

  /** Flags of a SHUTDOWN that we send: the host sends no more. */
  get shutdownFlags(): number {
    return SEND;
  }

  /** Ends the host's side. */
  close(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.pendingOps.clear();
    this.pendingOps.add(RST);
    this.#backlog = [];
    this.#backlogBytes = 0;
    this.hostReadable = false;
    this.stream.close();
  }

  /** The host reported readiness. */
  markReadable(): void {
    this.hostReadable = true;
    this.#watch();
  }

  #keep(bytes: Uint8Array<ArrayBuffer>): void {
    this.#backlog.push(bytes);
    this.#backlogBytes += bytes.byteLength;
  }

  #dropFromBacklog(count: number): void {
    this.#backlogBytes -= count;
    while (count > 0) {
      const first = this.#backlog[0];
      if (first === undefined) return;
      if (first.byteLength > count) {
        this.#backlog[0] = first.subarray(count);
        return;
      }
      count -= first.byteLength;
      this.#backlog.shift();
    }
  }

  #forward(count: number): void {
    this.#forwardedBytes = (this.#forwardedBytes + count) >>> 0;
    // Telling of every byte would double the packets; a quarter of the buffer keeps the guest going.
    const unreported = (this.#forwardedBytes - this.#reportedForwarded) >>> 0;
    if (unreported >= RECEIVE_BUFFER_BYTES / 4) this.pendingOps.add(CREDIT_UPDATE);
  }

  #watch(): void {
    if (this.state === "closed") return;
    this.stream.watch({
      readable: this.state === "connected" && !this.hostReadable && !this.#hostEnded,
      writable: this.#backlogBytes > 0,
    });
  }
}
