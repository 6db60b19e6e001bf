import { deepEqual, equal } from "node:assert/strict";
import { GuestMemory } from "../../src/memory/guest_memory.ts";
import * as abi from "../../src/virtio/abi.ts";
import { QueueError } from "../../src/virtio/descriptor_chain.ts";
import type { ActiveContext, VirtioDevice } from "../../src/virtio/device.ts";
import { InterruptStatus } from "../../src/virtio/interrupt_status.ts";
import { MmioTransport } from "../../src/virtio/mmio_transport.ts";

const ACK = 1;
const DRIVER = 3;
const FEATURES_OK = 11;
const DRIVER_OK = 15;
const NEEDS_RESET = 0x40;

class RecordingDevice implements VirtioDevice {
  readonly deviceId = 4;
  readonly features = 1n << 5n;
  readonly queueSizes = [16];
  context: ActiveContext | undefined;
  notified: number[] = [];
  resets = 0;
  broken = false;
  /** calls that leave work for another */
  unfinished = 0;
  config(): Uint8Array {
    return Uint8Array.of(1, 2, 3, 4);
  }
  activate(context: ActiveContext): void {
    this.context = context;
  }
  notify(queueIndex: number): boolean {
    if (this.broken) throw new QueueError("broken");
    this.notified.push(queueIndex);
    return this.unfinished-- > 0;
  }
  reset(): void {
    this.resets++;
  }
}

function create(): {
  device: RecordingDevice;
  transport: MmioTransport;
  status: Int32Array;
  workLeft: number[];
} {
  const status = new Int32Array(1);
  const device = new RecordingDevice();
  const workLeft: number[] = [];
  const interrupt = new InterruptStatus(status, 0, { trigger: () => {} });
  return {
    device,
    transport: new MmioTransport(
      device,
      new GuestMemory(new ArrayBuffer(0x10000)),
      interrupt,
      (queueIndex) => {
        workLeft.push(queueIndex);
      },
    ),
    status,
    workLeft,
  };
}

const write = (transport: MmioTransport, offset: number, value: number): void =>
  transport.write(offset, 4, value);
const status = (transport: MmioTransport): number => transport.read(abi.VIRTIO_MMIO_STATUS, 4);

function acceptFeatures(transport: MmioTransport, low = 0, high = 1): void {
  write(transport, abi.VIRTIO_MMIO_STATUS, ACK);
  write(transport, abi.VIRTIO_MMIO_STATUS, DRIVER);
  write(transport, abi.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
  write(transport, abi.VIRTIO_MMIO_DRIVER_FEATURES, low);
  write(transport, abi.VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
  write(transport, abi.VIRTIO_MMIO_DRIVER_FEATURES, high);
  write(transport, abi.VIRTIO_MMIO_STATUS, FEATURES_OK);
}

function setUpQueue(
  transport: MmioTransport,
  { size = 16, desc = 0x1000, avail = 0x2000, used = 0x3000 } = {},
): void {
  write(transport, abi.VIRTIO_MMIO_QUEUE_SEL, 0);
  write(transport, abi.VIRTIO_MMIO_QUEUE_NUM, size);
  write(transport, abi.VIRTIO_MMIO_QUEUE_DESC_LOW, desc);
  write(transport, abi.VIRTIO_MMIO_QUEUE_AVAIL_LOW, avail);
  write(transport, abi.VIRTIO_MMIO_QUEUE_USED_LOW, used);
  write(transport, abi.VIRTIO_MMIO_QUEUE_READY, 1);
}

Deno.test("MmioTransport identifies itself as virtio version 2", () => {
  const { transport } = create();
  equal(transport.read(abi.VIRTIO_MMIO_MAGIC_VALUE, 4), 0x74726976);
  equal(transport.read(abi.VIRTIO_MMIO_VERSION, 4), 2);
  equal(transport.read(abi.VIRTIO_MMIO_DEVICE_ID, 4), 4);
  equal(transport.read(abi.VIRTIO_MMIO_QUEUE_NUM_MAX, 4), 16);
});

Deno.test("MmioTransport reads the configuration space in any width and zeros behind it", () => {
  const { transport } = create();
  equal(transport.read(abi.VIRTIO_MMIO_CONFIG, 4), 0x04030201);
  equal(transport.read(abi.VIRTIO_MMIO_CONFIG + 1, 2), 0x0302);
  equal(transport.read(abi.VIRTIO_MMIO_CONFIG + 3, 8), 4);
  equal(transport.read(abi.VIRTIO_MMIO_CONFIG + 0xe00, 4), 0);
});

Deno.test("MmioTransport goes through initialisation and hands the queues over at DRIVER_OK", () => {
  const { transport, device } = create();
  acceptFeatures(transport, 1 << 5);
  setUpQueue(transport);
  write(transport, abi.VIRTIO_MMIO_STATUS, DRIVER_OK);
  equal(status(transport), DRIVER_OK);
  equal(device.context?.features, (1n << 32n) | (1n << 5n));
  equal(device.context?.queues.length, 1);
  // What the driver put in before, and what it tells of later
  deepEqual(device.notified, [0]);
  transport.notify(0);
  deepEqual(device.notified, [0, 0]);
});

Deno.test("MmioTransport asks to be called again for a queue with work left, at DRIVER_OK and after a notification", () => {
  const { transport, device, workLeft } = create();
  acceptFeatures(transport);
  setUpQueue(transport);
  device.unfinished = 2;
  write(transport, abi.VIRTIO_MMIO_STATUS, DRIVER_OK);
  deepEqual(workLeft, [0]);
  transport.notify(0);
  deepEqual(workLeft, [0, 0]);
  transport.notify(0);
  deepEqual([workLeft.length, device.notified.length], [2, 3]);
});

Deno.test("MmioTransport does not look into a queue that the driver did not set up", () => {
  const { transport, device } = create();
  acceptFeatures(transport);
  write(transport, abi.VIRTIO_MMIO_STATUS, DRIVER_OK);
  deepEqual(device.notified, []);
});

Deno.test("MmioTransport refuses FEATURES_OK for a feature that was not offered, or without VERSION_1", () => {
  for (const [low, high] of [[1, 1], [1 << 5, 0]] as const) {
    const { transport } = create();
    acceptFeatures(transport, low, high);
    equal(status(transport), DRIVER);
  }
});

Deno.test("MmioTransport ignores status steps that are not in the table", () => {
  for (const step of [DRIVER, FEATURES_OK, DRIVER_OK, 2, 4, 0x20]) {
    const { transport } = create();
    write(transport, abi.VIRTIO_MMIO_STATUS, step);
    equal(status(transport), 0, `step ${step}`);
    equal(transport.refusals, 1);
  }
});

Deno.test("MmioTransport asks for a reset when a queue's size or place is wrong", () => {
  const wrong = [{ size: 0 }, { size: 3 }, { size: 32 }, { desc: 0x1008 }, { avail: 0x2001 }, {
    used: 0xfff0,
  }];
  for (const queue of wrong) {
    const { transport } = create();
    acceptFeatures(transport);
    setUpQueue(transport, queue);
    equal(status(transport) & NEEDS_RESET, NEEDS_RESET, JSON.stringify(queue));
    equal(transport.read(abi.VIRTIO_MMIO_QUEUE_READY, 4), 0);
  }
});

Deno.test("MmioTransport ignores queue registers before FEATURES_OK and after DRIVER_OK", () => {
  const early = create().transport;
  setUpQueue(early);
  equal(early.read(abi.VIRTIO_MMIO_QUEUE_READY, 4), 0);
  const late = create().transport;
  acceptFeatures(late);
  write(late, abi.VIRTIO_MMIO_STATUS, DRIVER_OK);
  setUpQueue(late);
  equal(late.read(abi.VIRTIO_MMIO_QUEUE_READY, 4), 0);
});

Deno.test("MmioTransport stops a device whose queue broke, tells the driver, and starts again after a reset", () => {
  const { transport, device, status: interruptStatus } = create();
  acceptFeatures(transport);
  setUpQueue(transport);
  write(transport, abi.VIRTIO_MMIO_STATUS, DRIVER_OK);
  device.broken = true;
  transport.notify(0);
  equal(status(transport), DRIVER_OK | NEEDS_RESET);
  equal(interruptStatus[0], abi.VIRTIO_MMIO_INT_CONFIG);
  device.broken = false;
  device.notified = [];
  transport.notify(0);
  deepEqual(device.notified, []);
  write(transport, abi.VIRTIO_MMIO_STATUS, 0);
  equal(status(transport), 0);
  equal(interruptStatus[0], 0);
  acceptFeatures(transport);
  equal(status(transport), FEATURES_OK);
});

Deno.test("MmioTransport ignores notifications of queues that do not exist and of a device that is not up", () => {
  const { transport, device } = create();
  transport.notify(0);
  acceptFeatures(transport);
  setUpQueue(transport);
  deepEqual(device.notified, []);
  write(transport, abi.VIRTIO_MMIO_STATUS, DRIVER_OK);
  device.notified = [];
  write(transport, abi.VIRTIO_MMIO_QUEUE_NOTIFY, 7);
  deepEqual(device.notified, []);
});

Deno.test("MmioTransport reads 0 and writes nothing in other widths than 32 bits", () => {
  const { transport } = create();
  equal(transport.read(abi.VIRTIO_MMIO_MAGIC_VALUE, 1), 0);
  transport.write(abi.VIRTIO_MMIO_STATUS, 1, ACK);
  equal(status(transport), 0);
});
