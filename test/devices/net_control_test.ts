import { deepEqual, equal, throws } from "node:assert/strict";
import {
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from "../../devices/net_control.ts";
import { NET_HEADER_BYTES, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ } from "../../devices/net_features.ts";
import { RateLimiter } from "../../devices/rate_limiter.ts";
import { type NetOptions, VirtioNet } from "../../devices/virtio_net.ts";
import { QueueError } from "../../src/virtio/descriptor_chain.ts";
import { FakeDriver } from "../support/fake_driver.ts";
import { FakeWire, frame } from "../support/fake_wire.ts";

const PAIRS = 4;
const CONTROL = 2 * PAIRS;
const MANY_PAIRS = VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_MQ;
const NO_ANSWER = 0xee;

interface Vm {
  readonly wire: FakeWire;
  readonly device: VirtioNet;
  /** receive 1, transmit 1, receive 2, …, control */
  readonly drivers: readonly FakeDriver[];
}

function create(
  { features = MANY_PAIRS, options = {}, missing = [] }: {
    features?: bigint;
    options?: Partial<NetOptions>;
    /** queues that the driver does not set up */
    missing?: readonly number[];
  } = {},
): Vm {
  const wire = new FakeWire(PAIRS);
  const device = new VirtioNet(wire, { mac: new Uint8Array(6), ...options });
  const drivers = device.queueSizes.map(() => new FakeDriver());
  const queues = drivers.map(({ deviceQueue }, index) => missing.includes(index) ? undefined : deviceQueue);
  device.activate({ features, queues, configChanged: () => {} });
  return { wire, device, drivers };
}

function driver({ drivers }: Vm, index: number): FakeDriver {
  const found = drivers[index];
  if (found === undefined) throw new RangeError(`There is no queue ${index}`);
  return found;
}

/** Sends a command, in these buffers; gives the answer. */
function command(vm: Vm, readable: Uint8Array[], queueIndex = CONTROL): number | undefined {
  const control = driver(vm, queueIndex);
  const { writableAddrs: [ack = 0] } = control.send(readable, [1]);
  control.memory.copyIn(ack, Uint8Array.of(NO_ANSWER));
  const before = control.used().length;
  vm.device.notify(queueIndex);
  equal(control.used().length, before + 1);
  return control.memory.copyOut(ack, 1)[0];
}

const header = Uint8Array.of(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET);
const le16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);
const setPairs = (vm: Vm, count: number): number | undefined => command(vm, [header, le16(count)]);

Deno.test("VirtioNet with one queue of packets has one pair, and neither a control queue nor a word of it", () => {
  const device = new VirtioNet(new FakeWire(1), { mac: new Uint8Array(6) });
  deepEqual([device.queueSizes.length, device.features & MANY_PAIRS, device.config()[8]], [2, 0n, 0]);
});

Deno.test("VirtioNet offers as many pairs as its backend has queues, and a control queue behind them", () => {
  const { device } = create();
  deepEqual([device.queueSizes.length, device.features & MANY_PAIRS], [CONTROL + 1, MANY_PAIRS]);
  deepEqual([...device.config().subarray(8, 10)], [PAIRS, 0]);
});

Deno.test("VirtioNet uses the first pair until the driver asks for more, and then each", () => {
  const vm = create();
  for (let pair = 0; pair < PAIRS; pair++) {
    driver(vm, 2 * pair).send([], [200]);
    vm.wire.queues[pair]?.waiting.push(frame(50));
    vm.device.notify(2 * pair);
    vm.device.receivePackets(pair);
  }
  const received = (): number[] => [0, 2, 4, 6].map((index) => driver(vm, index).used().length);
  deepEqual(received(), [1, 0, 0, 0]);
  equal(setPairs(vm, 3), VIRTIO_NET_OK);
  deepEqual(vm.wire.uses, [3]);
  // Buffers and packets were there before: nobody notifies of them any more.
  deepEqual(received(), [1, 1, 1, 0]);
  equal(setPairs(vm, 1), VIRTIO_NET_OK);
  vm.wire.queues[1]?.waiting.push(frame(50));
  driver(vm, 2).send([], [200]);
  vm.device.notify(2);
  vm.device.receivePackets(1);
  deepEqual([vm.wire.uses, received()], [[3, 1], [1, 1, 1, 0]]);
});

Deno.test("VirtioNet sends by the pair that the driver sends by, and by the first what it left in others", () => {
  const vm = create();
  setPairs(vm, 2);
  for (const pair of [0, 1, 3]) {
    driver(vm, 2 * pair + 1).send([frame(60 + pair)], []);
    vm.device.notify(2 * pair + 1);
  }
  const sizes = vm.wire.queues.map(({ sent }) => sent.map(({ length }) => length - NET_HEADER_BYTES));
  deepEqual(sizes, [[60, 63], [61], [], []]);
  equal(driver(vm, 7).used().length, 1);
});

Deno.test("VirtioNet takes a command in any buffers, and the number of pairs that it has already", () => {
  const vm = create();
  equal(
    command(vm, [header.slice(0, 1), header.slice(1), le16(4).slice(0, 1), le16(4).slice(1)]),
    VIRTIO_NET_OK,
  );
  equal(setPairs(vm, 4), VIRTIO_NET_OK);
  deepEqual(vm.wire.uses, [4]);
});

Deno.test("VirtioNet refuses commands that it does not know, that are cut, or that go on", () => {
  const wrong = [
    [Uint8Array.of(0, 0), Uint8Array.of(1)], // VIRTIO_NET_CTRL_RX: promiscuous mode
    [Uint8Array.of(VIRTIO_NET_CTRL_MQ, 1), le16(2)],
    [Uint8Array.of(VIRTIO_NET_CTRL_MQ)],
    [header],
    [header, Uint8Array.of(2)],
    [header, Uint8Array.of(2, 0, 0)],
    [header, new Uint8Array(4096)],
  ];
  for (const readable of wrong) {
    const vm = create();
    equal(command(vm, readable), VIRTIO_NET_ERR, readable.join(" "));
    deepEqual(vm.wire.uses, []);
  }
});

Deno.test("VirtioNet refuses a number of pairs that it does not have", () => {
  const vm = create();
  for (const count of [0, PAIRS + 1, 0x8000, 0xffff]) {
    equal(setPairs(vm, count), VIRTIO_NET_ERR, `${count}`);
  }
  deepEqual(vm.wire.uses, []);
});

Deno.test("VirtioNet refuses pairs that the driver did not set up", () => {
  for (const missing of [2, 3]) {
    const vm = create({ missing: [missing] });
    equal(setPairs(vm, 2), VIRTIO_NET_ERR);
    deepEqual(vm.wire.uses, []);
  }
});

Deno.test("VirtioNet stays with the pairs that it has when the host refuses others", () => {
  const vm = create();
  setPairs(vm, 2);
  vm.wire.refuses = true;
  equal(setPairs(vm, 4), VIRTIO_NET_ERR);
  driver(vm, 2).send([], [200]);
  vm.wire.queues[1]?.waiting.push(frame(50));
  vm.device.notify(2);
  equal(driver(vm, 2).used().length, 1);
});

Deno.test("VirtioNet does nothing for a command without room for the answer, and gives it back", () => {
  const vm = create();
  driver(vm, CONTROL).send([header, le16(2)], []);
  vm.device.notify(CONTROL);
  deepEqual(driver(vm, CONTROL).used(), [{ head: 0, writtenBytes: 0 }]);
  deepEqual(vm.wire.uses, []);
});

Deno.test("VirtioNet answers in the first byte, whatever room there is", () => {
  const vm = create();
  const { writableAddrs: [answer = 0] } = driver(vm, CONTROL).send([header, le16(9)], [100]);
  vm.device.notify(CONTROL);
  deepEqual(driver(vm, CONTROL).used(), [{ head: 0, writtenBytes: 1 }]);
  equal(driver(vm, CONTROL).memory.copyOut(answer, 1)[0], VIRTIO_NET_ERR);
});

Deno.test("VirtioNet has its control queue behind the first pair for a driver that knows of no others", () => {
  const vm = create({ features: VIRTIO_NET_F_CTRL_VQ });
  equal(command(vm, [header, le16(1)], 2), VIRTIO_NET_OK);
  equal(command(vm, [header, le16(2)], 2), VIRTIO_NET_ERR);
  for (const queueIndex of [3, 4, CONTROL]) {
    driver(vm, queueIndex).send([header, le16(1)], [1]);
    equal(vm.device.notify(queueIndex), false);
    equal(driver(vm, queueIndex).used().length, 0, `queue ${queueIndex}`);
  }
});

Deno.test("VirtioNet without a control queue has one pair, whatever else the driver takes", () => {
  const vm = create({ features: VIRTIO_NET_F_MQ });
  for (const queueIndex of [2, CONTROL]) {
    driver(vm, queueIndex).send([header, le16(1)], [1]);
    equal(vm.device.notify(queueIndex), false);
    equal(driver(vm, queueIndex).used().length, 0, `queue ${queueIndex}`);
  }
});

Deno.test("VirtioNet goes back to one pair at a reset, and watches none", () => {
  const vm = create();
  for (const index of [0, 2, 4, 6]) driver(vm, index).send([], [200]);
  setPairs(vm, 4);
  deepEqual(vm.wire.queues.map(({ wanted }) => wanted), [false, true, true, true]);
  vm.device.reset();
  deepEqual(vm.wire.queues.map(({ wanted }) => wanted), [false, false, false, false]);
  deepEqual(vm.wire.uses, [4, 1]);
  vm.device.activate({
    features: MANY_PAIRS,
    queues: vm.drivers.map(() => new FakeDriver().deviceQueue),
    configChanged: () => {},
  });
  vm.device.receivePackets(1);
  equal(vm.wire.queues[1]?.wanted, false);
});

Deno.test("VirtioNet lets a broken queue of one pair out when others are set up", () => {
  const vm = create();
  driver(vm, 2).setDescriptor(0, { addr: 0xffff_ffff, len: 200, flags: 2 });
  driver(vm, 2).offer(0);
  driver(vm, CONTROL).send([header, le16(2)], [1]);
  throws(() => vm.device.notify(CONTROL), QueueError);
});

Deno.test("VirtioNet that is held to a rate lets each queue have its turn", () => {
  let now = 0;
  const limiter = new RateLimiter({ operationsPerSecond: 1 }, () => now);
  const vm = create({ options: { limiter, wakeIn: () => {} } });
  setPairs(vm, 2);
  for (let count = 0; count < 10; count++) {
    for (const queueIndex of [1, 3]) driver(vm, queueIndex).send([frame(60)], []);
  }
  vm.device.notify(1);
  vm.device.notify(3);
  for (let second = 0; second < 8; second++) {
    now += 1001;
    vm.device.resume();
  }
  deepEqual(vm.wire.queues.map(({ sent }) => sent.length > 1), [true, true, false, false]);
});
