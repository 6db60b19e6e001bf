import { deepEqual, equal } from "node:assert/strict";
import { RateLimiter } from "../../devices/rate_limiter.ts";
import * as net from "../../devices/net_features.ts";
import { NET_HEADER_BYTES, OFFLOAD } from "../../devices/net_features.ts";
import { type NetOptions, VirtioNet } from "../../devices/virtio_net.ts";
import { FakeDriver } from "../support/fake_driver.ts";
import { FakeWire, type FakeWireQueue, frame } from "../support/fake_wire.ts";

function create(
  { features = 0n, options = {} }: { features?: bigint; options?: Partial<NetOptions> } = {},
): {
  backend: FakeWire;
  wire: FakeWireQueue;
  net: VirtioNet;
  toGuest: FakeDriver;
  toHost: FakeDriver;
  changes: () => number;
} {
  const backend = new FakeWire();
  const device = new VirtioNet(backend, { mac: Uint8Array.of(6, 0, 1, 2, 3, 4), ...options });
  const toGuest = new FakeDriver();
  const toHost = new FakeDriver();
  let changes = 0;
  const queues = [toGuest.deviceQueue, toHost.deviceQueue];
  device.activate({ features, queues, configChanged: () => changes++ });
  return { backend, wire: backend.first, net: device, toGuest, toHost, changes: () => changes };
}

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
  net.receivePackets(0);
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
  net.receivePackets(0);
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
  net.receivePackets(0);
  equal(wire.wanted, false);
});

Deno.test("VirtioNet spreads a packet over as many buffers as it needs, where the guest merges them", () => {
  const { wire, net: device, toGuest } = create({ features: net.VIRTIO_NET_F_MRG_RXBUF });
  const buffers = Array.from({ length: 16 }, () => toGuest.send([], [1000]));
  wire.waiting.push(frame(2500), frame(10));
  device.notify(0);
  deepEqual(toGuest.used(), [
    { head: 0, writtenBytes: 1000 },
    { head: 1, writtenBytes: 1000 },
    { head: 2, writtenBytes: NET_HEADER_BYTES + 500 },
    { head: 3, writtenBytes: NET_HEADER_BYTES + 10 },
  ]);
  equal(toGuest.memory.readU16((buffers[0]?.writableAddrs[0] ?? 0) + 10), 3);
  equal(toGuest.memory.readU16((buffers[3]?.writableAddrs[0] ?? 0) + 10), 1);
});

Deno.test("VirtioNet waits until the longest packet fits, where the guest merges buffers", () => {
  const { wire, net: device, toGuest } = create({ features: net.VIRTIO_NET_F_MRG_RXBUF });
  for (let count = 0; count < 9; count++) toGuest.send([], [1000]);
  wire.waiting.push(frame(50));
  device.notify(0);
  deepEqual([toGuest.used().length, wire.waiting.length, wire.wanted], [0, 1, false]);
  toGuest.send([], [1000]);
  device.notify(0);
  equal(toGuest.used().length, 1);
});

Deno.test("VirtioNet has the host leave to the guest what the guest can do, and nothing that makes no sense", () => {
  const { GUEST_CSUM, GUEST_TSO4, GUEST_ECN } = {
    GUEST_CSUM: net.VIRTIO_NET_F_GUEST_CSUM,
    GUEST_TSO4: net.VIRTIO_NET_F_GUEST_TSO4,
    GUEST_ECN: net.VIRTIO_NET_F_GUEST_ECN,
  };
  equal(create().backend.offloadsSet, 0);
  equal(create({ features: GUEST_CSUM | GUEST_TSO4 }).backend.offloadsSet, OFFLOAD.csum | OFFLOAD.tso4);
  equal(create({ features: GUEST_TSO4 }).backend.offloadsSet, 0);
  equal(create({ features: GUEST_CSUM | GUEST_ECN }).backend.offloadsSet, OFFLOAD.csum);
});

Deno.test("VirtioNet tells address, link and MTU, and of a change of the link", () => {
  const { wire, net: device, toGuest, toHost, changes } = create({ options: { mtu: 9000 } });
  deepEqual([...device.config()], [6, 0, 1, 2, 3, 4, 1, 0, 0, 0, 0x28, 0x23]);
  device.setLink(false);
  device.setLink(false);
  deepEqual([device.config()[6], changes()], [0, 1]);
  toGuest.send([], [2000]);
  wire.waiting.push(frame(60));
  device.notify(0);
  toHost.send([frame(60)], []);
  device.notify(1);
  deepEqual([toGuest.used().length, wire.waiting.length, wire.sent.length], [0, 0, 0]);
  equal(toHost.used().length, 1);
});

Deno.test("VirtioNet that is held to a rate leaves packets where they are, and goes on in time", () => {
  let now = 0;
  const wakes: number[] = [];
  const limiter = new RateLimiter({ operationsPerSecond: 2 }, () => now);
  const vm = create({ options: { limiter, wakeIn: (delayMs) => wakes.push(delayMs) } });
  for (let count = 0; count < 3; count++) vm.toHost.send([frame(60)], []);
  equal(vm.net.notify(1), false);
  equal(vm.wire.sent.length, 2);
  vm.toGuest.send([], [200]);
  vm.wire.waiting.push(frame(60));
  vm.net.notify(0);
  deepEqual([vm.wire.waiting.length, vm.wire.wanted, wakes], [1, false, [500]]);
  now += 2000;
  vm.net.resume();
  deepEqual([vm.wire.waiting.length, vm.wire.sent.length, vm.toGuest.used().length], [0, 3, 1]);
});
