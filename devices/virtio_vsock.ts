/**
 * virtio socket device (virtio 1.2 §5.10): streams between ports of the guest and ports of the host.
 *
 * The guest controls packet headers and payloads. Context ids, type, length and state are checked for each packet;
 * what does not fit is answered with a reset. The number of streams, the bytes held for a slow host and the resets
 * that wait for a receive buffer are capped.
 *
 * @module
 */

import { VIRTIO_ID_VSOCK } from "../src/virtio/abi.ts";
import type { ChainReader } from "../src/virtio/chain_reader.ts";
import type { DescriptorChain } from "../src/virtio/descriptor_chain.ts";
import type { ActiveContext, VirtioDevice } from "../src/virtio/device.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";
import { type HostStream, VsockConnection } from "./vsock_connection.ts";
import * as packet from "./vsock_packet.ts";

const QUEUE_SIZE = 256;
const RECEIVE = 0;
const TRANSMIT = 1;
/** Streams at once: each is a file descriptor of the host. */
const MAX_CONNECTIONS = 512;
/** Resets that wait for a receive buffer; beyond it they are dropped and the guest's own timeout ends the stream. */
const MAX_PENDING_RESETS = 256;
/** Largest payload that Linux sends in one packet. */
const MAX_PAYLOAD_BYTES = 64 * 1024;
/** Host ports of streams that the host opens count up from here, above all ports that programs listen on. */
const FIRST_HOST_PORT = 2 ** 30;

/** The host's side: opens a stream to what listens at a host port. */
export interface VsockBackend {
  /** a stream whose readiness is reported to `events`, or `undefined` if nobody listens */
  connect(hostPort: number): HostStream | undefined;
  /** told of connections that the guest was refused: of its own accord, it may be told without end */
  refused(target: { readonly cid: number; readonly port: number }): void;
  /** the guest is gone or restarted: streams were closed */
  reset(): void;
}

/** The socket device. */
export class VirtioVsock implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_VSOCK;
  readonly features = 0n;
  readonly queueSizes: readonly number[] = [QUEUE_SIZE, QUEUE_SIZE, 16];
  readonly #guestCid: number;
  readonly #backend: VsockBackend;
  readonly #connections = new Map<string, VsockConnection>();
  readonly #byStream = new Map<HostStream, VsockConnection>();
  /** headers of resets for packets that belong to no stream */
  #resets: packet.VsockHeader[] = [];
  #nextHostPort = FIRST_HOST_PORT;
  #toGuest: DeviceQueue | undefined;
  #toHost: DeviceQueue | undefined;

  constructor(backend: VsockBackend, guestCid: number) {
    this.#backend = backend;
    this.#guestCid = guestCid;
  }

  /** `struct virtio_vsock_config`: le64 guest_cid */
  config(): Uint8Array {
    return new Uint8Array(BigUint64Array.of(BigInt(this.#guestCid)).buffer);
  }

  activate({ queues }: ActiveContext): void {
    this.#toGuest = queues[RECEIVE];
    this.#toHost = queues[TRANSMIT];
  }

  notify(queueIndex: number): boolean {
    let more = false;
    if (queueIndex === TRANSMIT) {
      more = this.#toHost?.drain(({ reader }) => this.#receivePacket(reader)) ?? false;
    }
    return this.#pump() || more;
  }

  reset(): void {
    for (const connection of this.#connections.values()) connection.close();
    this.#connections.clear();
    this.#byStream.clear();
    this.#resets = [];
    this.#toGuest = undefined;
    this.#toHost = undefined;
    this.#backend.reset();
  }

  /** The host wants a stream to a guest port. Returns false if there is no guest driver, or too many streams. */
  connectGuest(guestPort: number, stream: HostStream): boolean {
    if (this.#toGuest === undefined || this.#connections.size >= MAX_CONNECTIONS) return false;
    let hostPort: number;
    do {
      hostPort = this.#nextHostPort;
      this.#nextHostPort = hostPort === 2 ** 31 ? FIRST_HOST_PORT : hostPort + 1;
    } while (this.#connections.has(key(guestPort, hostPort)));
    this.#register(new VsockConnection({ guestPort, hostPort }, stream, "host"));
    this.#pump();
    return true;
  }

  /** The host's end of a stream became ready. */
  onStream(stream: HostStream, ready: { readable: boolean; writable: boolean }): void {
    const connection = this.#byStream.get(stream);
    if (connection === undefined) return;
    if (ready.readable) connection.markReadable();
    if (ready.writable && !connection.flushBacklog()) this.#close(connection);
    this.#closeIfFinished(connection);
    this.#pump();
  }

  #register(connection: VsockConnection): void {
    this.#connections.set(key(connection.guestPort, connection.hostPort), connection);
    this.#byStream.set(connection.stream, connection);
  }

  #receivePacket(reader: ChainReader): void {
    const bytes = reader.copy(packet.VSOCK_HEADER_BYTES);
    if (bytes === undefined) return;
    const header = packet.decodeVsockHeader(bytes);
    // §5.10.6: only from the guest's own id: there is nobody to answer otherwise.
    if (header.srcCid !== this.#guestCid) return;
    // Only to the host: a guest that waited for another one would wait for its kernel's time limit.
    if (header.dstCid !== packet.VMADDR_CID_HOST) return this.#refuse(header);
    if (header.type !== packet.VIRTIO_VSOCK_TYPE_STREAM) return this.#refuse(header);
    const connection = this.#connections.get(key(header.srcPort, header.dstPort));
    if (connection !== undefined) {
      connection.updateCredit(header);
      this.#dispatch(connection, header, reader);
      this.#closeIfFinished(connection);
      return;
    }
    if (header.op === packet.VIRTIO_VSOCK_OP_REQUEST) return this.#connectHost(header);
    if (header.op !== packet.VIRTIO_VSOCK_OP_RST) this.#queueReset(header);
  }

  #connectHost(header: packet.VsockHeader): void {
    const stream = this.#connections.size < MAX_CONNECTIONS
      ? this.#backend.connect(header.dstPort)
      : undefined;
    if (stream === undefined) return this.#refuse(header);
    const connection = new VsockConnection(
      { guestPort: header.srcPort, hostPort: header.dstPort },
      stream,
      "guest",
    );
    connection.updateCredit(header);
    this.#register(connection);
  }

  #dispatch(connection: VsockConnection, header: packet.VsockHeader, reader: ChainReader): void {
    switch (header.op) {
      case packet.VIRTIO_VSOCK_OP_RESPONSE:
        return connection.accepted();
      case packet.VIRTIO_VSOCK_OP_RW: {
        const sound = header.len <= MAX_PAYLOAD_BYTES && header.len <= reader.availableBytes;
        if (!sound || !connection.receive(reader.views(header.len), header.len)) this.#close(connection);
        return;
      }
      case packet.VIRTIO_VSOCK_OP_SHUTDOWN:
        return connection.guestShutdown(header.flags);
      case packet.VIRTIO_VSOCK_OP_CREDIT_UPDATE:
        return;
      case packet.VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        connection.pendingOps.add(packet.VIRTIO_VSOCK_OP_CREDIT_UPDATE);
        return;
      case packet.VIRTIO_VSOCK_OP_RST:
        this.#forget(connection);
        return;
      default:
        // A second REQUEST, or an operation that does not exist
        this.#close(connection);
    }
  }

  /** Ends a stream and tells the guest. */
  #close(connection: VsockConnection): void {
    this.#forget(connection);
    this.#pushReset(this.#headerOf(connection, packet.VIRTIO_VSOCK_OP_RST, 0));
  }

  #forget(connection: VsockConnection): void {
    connection.close();
    this.#connections.delete(key(connection.guestPort, connection.hostPort));
    this.#byStream.delete(connection.stream);
  }

  #closeIfFinished(connection: VsockConnection): void {
    if (connection.state !== "closed" && connection.finished) this.#close(connection);
  }

  /** Answers what cannot be reached; only a try to connect is worth telling. */
  #refuse(header: packet.VsockHeader): void {
    if (header.op === packet.VIRTIO_VSOCK_OP_REQUEST) {
      this.#backend.refused({ cid: header.dstCid, port: header.dstPort });
    }
    if (header.op !== packet.VIRTIO_VSOCK_OP_RST) this.#queueReset(header);
  }

  #queueReset(header: packet.VsockHeader): void {
    this.#pushReset({
      ...header,
      srcCid: header.dstCid,
      dstCid: this.#guestCid,
      srcPort: header.dstPort,
      dstPort: header.srcPort,
      type: packet.VIRTIO_VSOCK_TYPE_STREAM,
      op: packet.VIRTIO_VSOCK_OP_RST,
      len: 0,
      flags: 0,
      bufAlloc: 0,
      fwdCnt: 0,
    });
  }

  #pushReset(header: packet.VsockHeader): void {
    if (this.#resets.length < MAX_PENDING_RESETS) this.#resets.push(header);
  }

  #headerOf(connection: VsockConnection, op: number, len: number): packet.VsockHeader {
    const fields = connection.headerFields();
    return {
      srcCid: packet.VMADDR_CID_HOST,
      dstCid: this.#guestCid,
      srcPort: connection.hostPort,
      dstPort: connection.guestPort,
      len,
      type: packet.VIRTIO_VSOCK_TYPE_STREAM,
      op,
      ...fields,
      flags: op === packet.VIRTIO_VSOCK_OP_SHUTDOWN ? connection.shutdownFlags : 0,
    };
  }

  /** Fills receive buffers: resets, then control packets, then data, one packet of each stream in turn. */
  #pump(): boolean {
    const queue = this.#toGuest;
    if (queue === undefined) return false;
    try {
      for (let left = QUEUE_SIZE; left > 0; left--) {
        if (!this.#hasPacket()) return false;
        const chain = queue.pop();
        if (chain === undefined) {
          if (queue.enableNotify()) continue;
          return false;
        }
        if (this.#fill(chain)) queue.push(chain);
        else queue.undoPop();
      }
      return true;
    } finally {
      queue.flush();
    }
  }

  #hasPacket(): boolean {
    if (this.#resets.length > 0) return true;
    for (const connection of this.#connections.values()) {
      if (connection.pendingOps.size > 0 || connection.wantsToSend) return true;
    }
    return false;
  }

  /** Puts one packet into a receive buffer; false if there was none after all. */
  #fill(chain: DescriptorChain): boolean {
    // A buffer too small for a header can carry nothing: it goes back empty.
    if (chain.writer.availableBytes < packet.VSOCK_HEADER_BYTES) return true;
    const reset = this.#resets.shift();
    if (reset !== undefined) return chain.writer.write(packet.encodeVsockHeader(reset));
    for (const connection of this.#connections.values()) {
      const [op] = connection.pendingOps;
      if (op === undefined) continue;
      connection.pendingOps.delete(op);
      return chain.writer.write(packet.encodeVsockHeader(this.#headerOf(connection, op, 0)));
    }
    return this.#fillData(chain);
  }

  #fillData({ writer }: DescriptorChain): boolean {
    const room = writer.availableBytes - packet.VSOCK_HEADER_BYTES;
    const headerViews = writer.views(packet.VSOCK_HEADER_BYTES);
    for (const [name, connection] of this.#connections) {
      if (!connection.wantsToSend || room === 0) continue;
      const limit = Math.min(connection.credit, room, MAX_PAYLOAD_BYTES);
      const count = connection.readHost(writer.views(limit));
      // Nothing (or the end): views were taken, so this buffer is given up and popped again.
      if (count === undefined) {
        this.#closeIfFinished(connection);
        return false;
      }
      copyInto(
        headerViews,
        packet.encodeVsockHeader(this.#headerOf(connection, packet.VIRTIO_VSOCK_OP_RW, count)),
      );
      writer.advance(packet.VSOCK_HEADER_BYTES + count);
      // To the end of the line: the next packet is another stream's.
      this.#connections.delete(name);
      this.#connections.set(name, connection);
      return true;
    }
    return room === 0;
  }
}

function key(guestPort: number, hostPort: number): string {
  return `${guestPort}:${hostPort}`;
}

function copyInto(views: readonly Uint8Array<ArrayBuffer>[], bytes: Uint8Array): void {
  let done = 0;
  for (const view of views) {
    view.set(bytes.subarray(done, done + view.byteLength));
    done += view.byteLength;
  }
}
