import { deepEqual, equal } from "node:assert/strict";
import { VirtioVsock, type VsockBackend } from "../../devices/virtio_vsock.ts";
import { type HostStream, RECEIVE_BUFFER_BYTES } from "../../devices/vsock_connection.ts";
import * as packet from "../../devices/vsock_packet.ts";
import { FakeDriver } from "../support/fake_driver.ts";
import { Random } from "../support/random.ts";

const GUEST = 3;
const HOST_PORT = 1025;
const GUEST_PORT = 5000;

class FakeStream implements HostStream {
  /** bytes that the host sends */
  incoming: number[] = [];
  ended = false;
  /** bytes that the host took */
  taken: number[] = [];
  capacity = Infinity;
  broken = false;
  acknowledged: number | undefined;
  writeShutdowns = 0;
  closes = 0;
  interest = { readable: false, writable: false };

  read(views: Uint8Array[]): number | undefined {
    if (this.incoming.length === 0) return this.ended ? 0 : undefined;
    let count = 0;
    for (const view of views) {
      const part = this.incoming.splice(0, view.byteLength);
      view.set(part);
      count += part.length;
    }
    return count;
  }
  write(views: Uint8Array[]): number | undefined {
    if (this.broken) return undefined;
    const bytes = views.flatMap((view) => [...view]).slice(0, this.capacity);
    this.capacity -= bytes.length;
    this.taken.push(...bytes);
    return bytes.length;
  }
  established(hostPort: number): void {
    this.acknowledged = hostPort;
  }
  shutdownWrite(): void {
    this.writeShutdowns++;
  }
  close(): void {
    this.closes++;
  }
  watch(interest: { readable: boolean; writable: boolean }): void {
    this.interest = interest;
  }
}

class Host implements VsockBackend {
  readonly streams: FakeStream[] = [];
  readonly refusals: string[] = [];
  listening = true;
  refused({ cid, port }: { cid: number; port: number }): void {
    this.refusals.push(`${cid}:${port}`);
  }
  connect(): HostStream | undefined {
    if (!this.listening) return undefined;
    const stream = new FakeStream();
    this.streams.push(stream);
    return stream;
  }
  reset(): void {}
}

/** A guest driver with receive buffers, and the device. */
class Guest {
  readonly host = new Host();
  readonly device = new VirtioVsock(this.host, GUEST);
  #toGuest = new FakeDriver({ size: 256 });
  readonly received: { header: packet.VsockHeader; data: number[] }[] = [];

  constructor(buffers = 16) {
    this.#send([]);
    for (let count = 0; count < buffers; count++) this.giveBuffer();
  }

  /** Each packet has a transmit queue, and so memory, of its own. */
  #send(parts: Uint8Array[]): void {
    const toHost = new FakeDriver();
    if (parts.length > 0) toHost.send(parts, []);
    const queues = [this.#toGuest.deviceQueue, toHost.deviceQueue, undefined];
    this.device.activate({ features: 0n, queues, configChanged: () => {} });
    this.device.notify(1);
    this.#collect();
  }

  #addrs: number[] = [];

  giveBuffer(sizeBytes = 256): void {
    const { writableAddrs } = this.#toGuest.send([], [sizeBytes]);
    this.#addrs.push(writableAddrs[0] ?? 0);
    this.device.notify(0);
    this.#collect();
  }

  #collect(): void {
    const used = this.#toGuest.used();
    for (let index = this.received.length; index < used.length; index++) {
      const { head, writtenBytes } = used[index] ?? { head: 0, writtenBytes: 0 };
      const bytes = this.#toGuest.memory.copyOut(this.#addrs[head] ?? 0, writtenBytes);
      this.received.push({
        header: packet.decodeVsockHeader(bytes),
        data: [...bytes.subarray(packet.VSOCK_HEADER_BYTES)],
      });
    }
  }

  packet(op: number, fields: Partial<packet.VsockHeader> = {}, payload = new Uint8Array(0)): void {
    const header = {
      srcCid: GUEST,
      dstCid: packet.VMADDR_CID_HOST,
      srcPort: GUEST_PORT,
      dstPort: HOST_PORT,
      len: payload.byteLength,
      type: packet.VIRTIO_VSOCK_TYPE_STREAM,
      op,
      flags: 0,
      bufAlloc: 65_536,
      fwdCnt: 0,
      ...fields,
    };
    this.#send([packet.encodeVsockHeader(header), ...(payload.byteLength > 0 ? [payload] : [])]);
  }

  /** The host's end became ready. */
  ready(stream: FakeStream, readiness: { readable: boolean; writable: boolean }): void {
    this.device.onStream(stream, readiness);
    this.#collect();
  }

  ops(): number[] {
    return this.received.map(({ header }) => header.op);
  }

  /** A stream that the guest opened. */
  open(): FakeStream {
    this.packet(packet.VIRTIO_VSOCK_OP_REQUEST);
    return this.host.streams.at(-1) ?? new FakeStream();
  }
}

const bytes = (...values: number[]): Uint8Array<ArrayBuffer> => Uint8Array.from(values);
const readable = { readable: true, writable: false };
const writable = { readable: false, writable: true };

Deno.test("VirtioVsock connects a guest to a host port and passes bytes both ways", () => {
  const guest = new Guest();
  const stream = guest.open();
  deepEqual(guest.ops(), [packet.VIRTIO_VSOCK_OP_RESPONSE]);
  guest.packet(packet.VIRTIO_VSOCK_OP_RW, {}, bytes(1, 2, 3));
  deepEqual(stream.taken, [1, 2, 3]);
  stream.incoming = [7, 8];
  guest.ready(stream, readable);
  deepEqual(guest.received.at(-1)?.data, [7, 8]);
  equal(guest.received.at(-1)?.header.fwdCnt, 3);
});

Deno.test("VirtioVsock resets a connection to a port where nobody listens", () => {
  const guest = new Guest();
  guest.host.listening = false;
  guest.packet(packet.VIRTIO_VSOCK_OP_REQUEST);
  deepEqual(guest.ops(), [packet.VIRTIO_VSOCK_OP_RST]);
  equal(guest.received[0]?.header.dstPort, GUEST_PORT);
});

Deno.test("VirtioVsock connects the host to a guest port once the guest accepts", () => {
  const guest = new Guest();
  const stream = new FakeStream();
  equal(guest.device.connectGuest(1024, stream), true);
  guest.giveBuffer();
  const request = guest.received[0]?.header;
  equal(request?.op, packet.VIRTIO_VSOCK_OP_REQUEST);
  equal(stream.acknowledged, undefined);
  guest.packet(packet.VIRTIO_VSOCK_OP_RESPONSE, { srcPort: 1024, dstPort: request?.srcPort ?? 0 });
  equal(stream.acknowledged, request?.srcPort);
  equal(stream.interest.readable, true);
});

Deno.test("VirtioVsock closes the host's end when the guest refuses", () => {
  const guest = new Guest();
  const stream = new FakeStream();
  guest.device.connectGuest(1024, stream);
  guest.giveBuffer();
  guest.packet(packet.VIRTIO_VSOCK_OP_RST, {
    srcPort: 1024,
    dstPort: guest.received[0]?.header.srcPort ?? 0,
  });
  equal(stream.closes, 1);
  equal(stream.acknowledged, undefined);
});

Deno.test("VirtioVsock sends no more than the guest's credit, and goes on when it grows", () => {
  const guest = new Guest();
  guest.packet(packet.VIRTIO_VSOCK_OP_REQUEST, { bufAlloc: 10 });
  const stream = guest.host.streams[0] ?? new FakeStream();
  stream.incoming = Array.from({ length: 25 }, (_, index) => index);
  guest.ready(stream, readable);
  deepEqual(guest.received.at(-1)?.data.length, 10);
  equal(guest.received.length, 2);
  guest.packet(packet.VIRTIO_VSOCK_OP_CREDIT_UPDATE, { bufAlloc: 10, fwdCnt: 10 });
  deepEqual(guest.received.at(-1)?.data, [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
});

Deno.test("VirtioVsock keeps what a slow host does not take, tells of it, and resets a guest beyond its credit", () => {
  const guest = new Guest();
  const stream = guest.open();
  stream.capacity = 2;
  guest.packet(packet.VIRTIO_VSOCK_OP_RW, {}, bytes(1, 2, 3, 4));
  deepEqual(stream.taken, [1, 2]);
  equal(stream.interest.writable, true);
  stream.capacity = Infinity;
  guest.ready(stream, writable);
  deepEqual(stream.taken, [1, 2, 3, 4]);
  equal(stream.interest.writable, false);
});

Deno.test("VirtioVsock resets a guest that sends beyond its credit", () => {
  const guest = new Guest();
  const stream = guest.open();
  stream.capacity = 0;
  const chunk = new Uint8Array(20 * 1024);
  for (let sent = 0; sent + chunk.length <= RECEIVE_BUFFER_BYTES; sent += chunk.length) {
    guest.packet(packet.VIRTIO_VSOCK_OP_RW, {}, chunk);
  }
  equal(stream.closes, 0);
  guest.packet(packet.VIRTIO_VSOCK_OP_RW, {}, chunk);
  equal(stream.closes, 1);
  equal(guest.received.at(-1)?.header.op, packet.VIRTIO_VSOCK_OP_RST);
});

Deno.test("VirtioVsock half-closes in both directions and ends with a reset", () => {
  const guest = new Guest();
  const stream = guest.open();
  guest.packet(packet.VIRTIO_VSOCK_OP_SHUTDOWN, { flags: packet.VIRTIO_VSOCK_SHUTDOWN_SEND });
  equal(stream.writeShutdowns, 1);
  stream.incoming = [5];
  guest.ready(stream, readable);
  deepEqual(guest.received.at(-1)?.data, [5]);
  stream.ended = true;
  guest.ready(stream, readable);
  deepEqual(guest.ops().slice(-1), [packet.VIRTIO_VSOCK_OP_RST]);
  equal(stream.closes, 1);
});

Deno.test("VirtioVsock tells the guest of the host's end and lets it send on", () => {
  const guest = new Guest();
  const stream = guest.open();
  stream.ended = true;
  guest.ready(stream, readable);
  equal(guest.received.at(-1)?.header.op, packet.VIRTIO_VSOCK_OP_SHUTDOWN);
  equal(guest.received.at(-1)?.header.flags, packet.VIRTIO_VSOCK_SHUTDOWN_SEND);
  guest.packet(packet.VIRTIO_VSOCK_OP_RW, {}, bytes(9));
  deepEqual(stream.taken, [9]);
  equal(stream.closes, 0);
});

Deno.test("VirtioVsock resets what does not fit: no stream, wrong type, a second request, a length beyond the packet", () => {
  const cases: [string, Partial<packet.VsockHeader>, number][] = [
    ["no stream", { srcPort: 1 }, packet.VIRTIO_VSOCK_OP_RW],
    ["wrong type", { type: 7 }, packet.VIRTIO_VSOCK_OP_RW],
    ["second request", {}, packet.VIRTIO_VSOCK_OP_REQUEST],
    ["length", { len: 5000 }, packet.VIRTIO_VSOCK_OP_RW],
    ["unknown operation", {}, 99],
  ];
  for (const [name, fields, op] of cases) {
    const guest = new Guest();
    guest.open();
    guest.packet(op, fields);
    equal(guest.received.at(-1)?.header.op, packet.VIRTIO_VSOCK_OP_RST, name);
  }
});

Deno.test("VirtioVsock ignores packets in the name of others, and resets those to others", () => {
  const guest = new Guest();
  guest.packet(packet.VIRTIO_VSOCK_OP_REQUEST, { srcCid: 4 });
  equal(guest.received.length, 0);
  guest.packet(packet.VIRTIO_VSOCK_OP_REQUEST, { dstCid: 4, dstPort: 1024 });
  guest.packet(packet.VIRTIO_VSOCK_OP_RW, { dstCid: 0 });
  guest.packet(packet.VIRTIO_VSOCK_OP_RST, { dstCid: 5 });
  deepEqual(
    guest.received.map(({ header }) => [header.op, header.srcCid, header.dstCid, header.dstPort]),
    [4, 0].map((cid) => [packet.VIRTIO_VSOCK_OP_RST, cid, GUEST, GUEST_PORT]),
  );
  equal(guest.received[0]?.header.srcPort, 1024);
  equal(guest.host.streams.length, 0);
  deepEqual(guest.host.refusals, ["4:1024"]);
});

Deno.test("VirtioVsock tells of each connection that it refuses", () => {
  const guest = new Guest();
  guest.host.listening = false;
  guest.packet(packet.VIRTIO_VSOCK_OP_REQUEST, { dstPort: 22 });
  guest.packet(packet.VIRTIO_VSOCK_OP_REQUEST, { dstPort: 0xffff_ffff });
  guest.packet(packet.VIRTIO_VSOCK_OP_RW);
  deepEqual(guest.host.refusals, ["2:22", "2:4294967295"]);
});

Deno.test("VirtioVsock caps the streams that a guest opens", () => {
  const guest = new Guest(0);
  let accepted = 0;
  while (accepted < 1000 && guest.device.connectGuest(accepted + 1, new FakeStream())) accepted++;
  equal(accepted, 512);
});

Deno.test("VirtioVsock closes all streams when the guest resets it", () => {
  const guest = new Guest();
  const stream = guest.open();
  guest.device.reset();
  equal(stream.closes, 1);
  equal(guest.device.connectGuest(1, new FakeStream()), false);
});

Deno.test("VirtioVsock survives random packets", () => {
  const random = new Random(0x50c7);
  for (let round = 0; round < 3_000; round++) {
    const guest = new Guest(4);
    const stream = guest.open();
    for (let step = 0; step < 4; step++) {
      const payload = random.bytes(random.below(32));
      guest.packet(random.below(10), {
        srcPort: random.below(2) === 0 ? GUEST_PORT : random.next(),
        dstPort: random.below(2) === 0 ? HOST_PORT : random.next(),
        len: random.below(3) === 0 ? random.next() : payload.length,
        type: random.below(4) === 0 ? random.below(5) : 1,
        flags: random.next(),
        bufAlloc: random.next(),
        fwdCnt: random.next(),
      }, payload);
      stream.incoming = [...random.bytes(random.below(64))];
      guest.ready(stream, { readable: random.below(2) === 0, writable: random.below(2) === 0 });
    }
  }
});
