/**
 * Virtio devices behind their register file, driven by a program that a hostile guest could run: it writes registers,
 * changes memory while the device uses it, notifies queues; and the host's side does things meanwhile.
 *
 * @module
 */

import { GuestMemory } from "../../src/memory/guest_memory.ts";
import * as abi from "../../src/virtio/abi.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";
import { InterruptStatus } from "../../src/virtio/interrupt_status.ts";
import { MmioTransport } from "../../src/virtio/mmio_transport.ts";
import type { FuzzTarget } from "./fuzzer.ts";
import { VIRTIO_WORLDS, type VirtioWorld } from "./virtio_worlds.ts";

const RAM_BYTES = 0x1_0000;
/** of the input, what lies in RAM from 0 on: rings, descriptors and buffers */
const IMAGE_BYTES = 0x800;
const OPERATION_BYTES = 8;
const MAX_OPERATIONS = 400;
const DESC = 0x000;
const AVAIL = 0x200;
const USED = 0x300;
const DATA = 0x400;

/** One target for each device. */
export function virtioTargets(): FuzzTarget[] {
  return Object.entries(VIRTIO_WORLDS).map(([name, create]) => ({
    name: `virtio-${name}`,
    corpus: [1, 2, 3, 4].map((variant) => program(create().device, variant)),
    run: (input) => runProgram(create(), input),
  }));
}

const ram = new ArrayBuffer(RAM_BYTES);

function runProgram(world: VirtioWorld, input: Uint8Array<ArrayBuffer>): string {
  new Uint8Array(ram).fill(0);
  new Uint8Array(ram).set(input.subarray(0, IMAGE_BYTES));
  const memory = new GuestMemory(ram);
  const words = new Int32Array(new SharedArrayBuffer(64));
  let interrupts = 0;
  const interrupt = new InterruptStatus(words, 0, { trigger: () => interrupts++ });
  const transport = new MmioTransport(world.device, memory, interrupt, () => {});
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  let operations = 0;
  for (
    let at = IMAGE_BYTES;
    at + OPERATION_BYTES <= input.byteLength && operations < MAX_OPERATIONS;
    at += OPERATION_BYTES
  ) {
    operations++;
    const value = view.getUint32(at + 4, true);
    const offset = view.getUint16(at + 2, true);
    switch (view.getUint8(at) % 6) {
      case 0:
      case 1:
        transport.write(offset, 4, value);
        break;
      case 2:
        transport.read(offset, [1, 2, 4, 8][view.getUint8(at + 1) % 4] ?? 4);
        break;
      case 3:
        transport.notify(value % 6);
        break;
      case 4:
        // Another CPU of the guest changes what the device may be looking at.
        memory.writeU32(offset % (RAM_BYTES - 4), value);
        break;
      default:
        transport.guard(() => world.hostEvent(view.getUint8(at + 1), value));
    }
  }
  const status = transport.read(abi.VIRTIO_MMIO_STATUS, 4);
  const used = memory.readU16(USED + 2);
  const head = memory.readU32(DATA);
  transport.write(abi.VIRTIO_MMIO_STATUS, 4, 0);
  world.check?.();
  return `${status} ${Math.min(used, 8)} ${Math.min(interrupts, 4)} ${Math.min(transport.refusals, 8)} ${
    head % 16
  }`;
}

/** A well-behaved driver: negotiates, sets up its queues in the same rings, sends a chain, notifies. */
function program({ features, queueSizes }: VirtioDevice, variant: number): Uint8Array<ArrayBuffer> {
  const image = new DataView(new ArrayBuffer(IMAGE_BYTES));
  const descriptor = (index: number, addr: number, len: number, flags: number, next: number): void => {
    image.setBigUint64(DESC + index * 16, BigInt(addr), true);
    image.setUint32(DESC + index * 16 + 8, len, true);
    image.setUint16(DESC + index * 16 + 12, flags, true);
    image.setUint16(DESC + index * 16 + 14, next, true);
  };
  // Variant 4 is a command of the network's control queue: use two pairs
  descriptor(0, DATA, variant === 4 ? 4 : 44, variant === 2 ? 2 : 1, 1);
  descriptor(1, DATA + 0x100, 512, variant === 3 ? 1 : 3, 2);
  descriptor(2, DATA + 0x380, variant === 2 ? 4096 : 1, 2, 0);
  for (let entry = 0; entry < 16; entry++) image.setUint16(AVAIL + 4 + entry * 2, 0, true);
  image.setUint16(AVAIL + 2, variant, true);
  image.setUint32(DATA, [0, 0, 0, 1, 0x0002_0004][variant] ?? 0, true);
  const operations: number[][] = [];
  const write = (offset: number, value: number): void => void operations.push([0, 0, offset, value]);
  write(abi.VIRTIO_MMIO_STATUS, 1);
  write(abi.VIRTIO_MMIO_STATUS, 3);
  for (const select of [0, 1]) {
    write(abi.VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
    const offered = features | abi.VIRTIO_F_VERSION_1 | (variant === 1 ? 0n : abi.VIRTIO_RING_F_EVENT_IDX);
    write(abi.VIRTIO_MMIO_DRIVER_FEATURES, Number((offered >> BigInt(select * 32)) & 0xffff_ffffn));
  }
  write(abi.VIRTIO_MMIO_STATUS, 11);
  queueSizes.forEach((_, index) => {
    write(abi.VIRTIO_MMIO_QUEUE_SEL, index);
    write(abi.VIRTIO_MMIO_QUEUE_NUM, 16);
    write(abi.VIRTIO_MMIO_QUEUE_DESC_LOW, DESC);
    write(abi.VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL);
    write(abi.VIRTIO_MMIO_QUEUE_USED_LOW, USED);
    write(abi.VIRTIO_MMIO_QUEUE_READY, 1);
  });
  write(abi.VIRTIO_MMIO_STATUS, 15);
  queueSizes.forEach((_, index) => operations.push([3, 0, 0, index], [5, index, 0, 100 + index]));
  // More pairs than there are
  if (variant === 4) operations.push([4, 0, DATA, 0x0003_0004], [4, 0, AVAIL, 6 << 16], [3, 0, 0, 4]);
  operations.push([4, 0, AVAIL, 8 << 16], [3, 0, 0, 0], [3, 0, 0, 1], [3, 0, 0, 4], [
    2,
    2,
    abi.VIRTIO_MMIO_CONFIG,
    0,
  ]);
  const bytes = new Uint8Array(IMAGE_BYTES + operations.length * OPERATION_BYTES);
  bytes.set(new Uint8Array(image.buffer));
  const view = new DataView(bytes.buffer);
  operations.forEach(([kind = 0, argument = 0, offset = 0, value = 0], index) => {
    const at = IMAGE_BYTES + index * OPERATION_BYTES;
    view.setUint8(at, kind);
    view.setUint8(at + 1, argument);
    view.setUint16(at + 2, offset, true);
    view.setUint32(at + 4, value, true);
  });
  return bytes;
}
