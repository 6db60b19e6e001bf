import { deepEqual, equal } from "node:assert/strict";
import { NET_HEADER_BYTES, type PacketBackend, VirtioNet } from "../../devices/virtio_net.ts";
import { FakeDriver } from "../support/fake_driver.ts";

class FakeWire implements PacketBackend {
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

function create(): { wire: FakeWire; net: VirtioNet; toGuest: FakeDriver; toHost: FakeDriver } {
  const wire = new FakeWire();
  const net = new VirtioNet(wire, Uint8Array.of(6, 0, 1, 2, 3, 4));
  const toGuest = new FakeDriver();
  const toHost = new FakeDriver();
  net.activate({ features: 0n, queues: [toGuest.deviceQueue, toHost.deviceQueue], configChanged: () => {} });
  return { wire, net, toGuest, toHost };
}

const frame = (sizeBytes: number): Uint8Array =>
  new Uint8Array(NET_HEADER_BYTES + sizeBytes).fill(7, NET_HEADER_BYTES);

Deno.test("VirtioNet sends a frame with its header, whatever buffers it is cut into", () => {
  const { wire, net, toHost } = create();
  const bytes = frame(60);
  toHost.send([bytes.slice(0, 4), bytes.slice(4)], []);
  net.notify(1);
  deepEqual(wire.sent, [[...bytes]]);
  equal(toHost.used().length, 1);
});

Deno.test("VirtioNet drops frames that are too short or too long, and gives their buffers back", () => {
  const { wire, net, toHost } = create();
  toHost.send([new Uint8Array(NET_HEADER_BYTES)], []);
  // descriptors that all name the same 8 KiB
  for (let index = 0; index < 15; index++) {
    toHost.setDescriptor(index + 1, {
      addr: 0x8000,
      len: 0x2000,
      flags: index < 14 ? 1 : 0,
      next: index + 2,
    });
  }
  toHost.offer(1);
  net.notify(1);
  deepEqual(wire.sent, []);
  equal(toHost.used().length, 2);
});

Deno.test("VirtioNet receives into the guest's buffers and says that one buffer was used", () => {
  const { wire, net, toGuest } = create();
  const { writableAddrs } = toGuest.send([], [NET_HEADER_BYTES + 100]);
  wire.waiting.push(frame(50));
  net.notify(0);
  deepEqual(toGuest.used(), [{ head: 0, writtenBytes: NET_HEADER_BYTES + 50 }]);
  equal(toGuest.memory.readU16((writableAddrs[0] ?? 0) + 10), 1);
  // Out of buffers: nothing more is wanted until the driver gives some.
  equal(wire.wanted, false);
});

Deno.test("VirtioNet leaves packets with the host while the guest has no buffers", () => {
  const { wire, net, toGuest } = create();
  wire.waiting.push(frame(50));
  net.receivePackets();
  equal(wire.wanted, false);
  equal(wire.waiting.length, 1);
  toGuest.send([], [200]);
  net.notify(0);
  equal(toGuest.used().length, 1);
});

Deno.test("VirtioNet keeps a receive buffer for the next packet when none waits", () => {
  const { wire, net, toGuest } = create();
  toGuest.send([], [200]);
  net.notify(0);
  deepEqual(toGuest.used(), []);
  equal(wire.wanted, true);
  wire.waiting.push(frame(1));
  net.receivePackets();
  equal(toGuest.used().length, 1);
});

Deno.test("VirtioNet lives with a receive buffer that cannot hold the header", () => {
  const { wire, net, toGuest } = create();
  toGuest.send([], [4]);
  wire.waiting.push(frame(50));
  net.notify(0);
  deepEqual(toGuest.used(), [{ head: 0, writtenBytes: 4 }]);
});

Deno.test("VirtioNet asks for no packets after a reset", () => {
  const { wire, net } = create();
  net.reset();
  equal(wire.wanted, false);
  net.receivePackets();
  equal(wire.wanted, false);
});
