/**
 * Virtio devices behind their register file, driven by a program that a hostile guest could run: it writes registers,
 * changes memory while the device uses it, notifies queues; and the host's side does things meanwhile.
 *
 * @module
 */

import { RateLimiter } from "../../devices/rate_limiter.ts";
import { VirtioBalloon } from "../../devices/virtio_balloon.ts";
import { type BlockBackend, VirtioBlk } from "../../devices/virtio_blk.ts";
import { VirtioConsole } from "../../devices/virtio_console.ts";
import { VirtioNet } from "../../devices/virtio_net.ts";
import { VirtioRng } from "../../devices/virtio_rng.ts";
import { VirtioVsock } from "../../devices/virtio_vsock.ts";
import type { HostStream } from "../../devices/vsock_connection.ts";
import { GuestMemory } from "../../src/memory/guest_memory.ts";
import * as abi from "../../src/virtio/abi.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";
import { InterruptStatus } from "../../src/virtio/interrupt_status.ts";
import { MmioTransport } from "../../src/virtio/mmio_transport.ts";
import type { FuzzTarget } from "./fuzzer.ts";

const RAM_BYTES = 0x1_0000;
/** of the input, what lies in RAM from 0 on: rings, descriptors and buffers */
const IMAGE_BYTES = 0x800;
const OPERATION_BYTES = 8;
const MAX_OPERATIONS = 400;
const DESC = 0x000;
const AVAIL = 0x200;
const USED = 0x300;
const DATA = 0x400;

/** A device, and what the host's side can do: numbered, with an argument. */
interface World {
  readonly device: VirtioDevice;
  hostEvent(number: number, argument: number): void;
  /** must hold once the program is over and the device was reset */
  check?(): void;
}

class Disk implements BlockBackend {
  readonly sizeBytes = 64 * 512;
  readonly unitBytes = 4096;
  readonly readOnly = false;
  readonly #bytes = new Uint8Array(64 * 512);
  readonly waiting: (() => void)[] = [];
  slow = false;

  read(views: Uint8Array[], diskOffset: number, done: (error?: unknown) => void): void {
    this.#begin(() => {
      for (const view of views) {
        view.set(this.#inside(diskOffset, view.byteLength));
        diskOffset += view.byteLength;
      }
      done();
    });
  }
  write(views: Uint8Array[], diskOffset: number, done: (error?: unknown) => void): void {
    this.#begin(() => {
      for (const view of views) {
        this.#inside(diskOffset, view.byteLength).set(view);
        diskOffset += view.byteLength;
      }
      done(diskOffset % 3 === 0 ? new RangeError("host failed") : undefined);
    });
  }
  flush(done: () => void): void {
    this.#begin(done);
  }
  writeZeroes(diskOffset: number, sizeBytes: number, _unmap: boolean, done: () => void): void {
    this.#begin(() => {
      this.#inside(diskOffset, sizeBytes).fill(0);
      done();
    });
  }
  finish(): void {
    while (this.waiting.length > 0) this.waiting.shift()?.();
  }
  #begin(work: () => void): void {
    if (this.slow) this.waiting.push(work);
    else work();
  }
  #inside(diskOffset: number, sizeBytes: number): Uint8Array {
    if (diskOffset < 0 || diskOffset + sizeBytes > this.sizeBytes) throw new Error("outside the disk");
    return this.#bytes.subarray(diskOffset, diskOffset + sizeBytes);
  }
}

function blkWorld(): World {
  const disk = new Disk();
  let now = 0;
  const limiter = new RateLimiter({ operationsPerSecond: 100, bytesPerSecond: 1e6 }, () => now);
  const device = new VirtioBlk(disk, {
    serial: "fuzz",
    queueCount: 2,
    limiter,
    onHostError: () => {},
    wakeIn: () => {},
  });
  return {
    device,
    hostEvent: (number, argument) => {
      if (number % 4 === 0) disk.slow = argument % 2 === 1;
      if (number % 4 === 1) disk.waiting.splice(argument % 8, 1)[0]?.();
      if (number % 4 === 2) now += argument % 1000;
      if (number % 4 === 3) device.resume();
      device.flushCompleted();
    },
    check: () => {
      if (disk.waiting.length > 0) throw new Error("requests outlive the reset");
    },
  };
}

function netWorld(): World {
  const waiting: number[] = [];
  const device = new VirtioNet({
    offloads: 0x1f,
    setOffloads: (offloads) => {
      // What the kernel answers with EINVAL
      if (offloads !== 0 && (offloads & 1) === 0) throw new Error(`offloads ${offloads}`);
    },
    receive: (views) => {
      const sizeBytes = waiting.shift();
      if (sizeBytes === undefined) return undefined;
      let left = sizeBytes;
      for (const view of views) {
        view.fill(7, 0, Math.min(left, view.byteLength));
        left -= Math.min(left, view.byteLength);
      }
      return sizeBytes - left;
    },
    send: (views) => void views.reduce((sum, view) => sum + view.byteLength, 0),
    wantPackets: () => {},
  }, { mac: new Uint8Array(6), mtu: 1500 });
  return {
    device,
    hostEvent: (number, argument) => {
      if (number % 3 === 0) waiting.push(argument % 70_000);
      if (number % 3 === 1) device.setLink(argument % 2 === 0);
      device.receivePackets();
    },
  };
}

class Stream implements HostStream {
  closes = 0;
  state = 0;
  read(views: Uint8Array[]): number | undefined {
    if (this.state % 3 === 0) return undefined;
    return this.state % 3 === 1 ? 0 : Math.min(5, views[0]?.byteLength ?? 0);
  }
  write(views: Uint8Array[]): number | undefined {
    if (this.state % 5 === 4) return undefined;
    return Math.min(this.state % 7, views.reduce((sum, view) => sum + view.byteLength, 0));
  }
  established(): void {}
  shutdownWrite(): void {}
  close(): void {
    this.closes++;
    if (this.closes > 1) throw new Error("a stream was closed twice");
  }
  watch(): void {}
}

function vsockWorld(): World {
  const streams: Stream[] = [];
  let listening = true;
  const device = new VirtioVsock({
    connect: () => {
      if (!listening) return undefined;
      const stream = new Stream();
      streams.push(stream);
      return stream;
    },
    reset: () => {},
  }, 3);
  const open = (): number => streams.filter(({ closes }) => closes === 0).length;
  return {
    device,
    hostEvent: (number, argument) => {
      const stream = streams[argument % Math.max(1, streams.length)];
      if (number % 4 === 0) listening = argument % 2 === 0;
      if (number % 4 === 1 && stream !== undefined) stream.state = argument;
      if (number % 4 === 2) device.notify(argument % 3);
      if (open() > 4096) throw new Error(`${open()} streams are open`);
    },
    check: () => {
      if (open() > 0) throw new Error(`${open()} streams outlive the reset`);
    },
  };
}

const WORLDS: Readonly<Record<string, () => World>> = {
  blk: blkWorld,
  net: netWorld,
  vsock: vsockWorld,
  console: () => {
    let size = 1;
    let room = 100;
    const device = new VirtioConsole({
      get size() {
        return { cols: size, rows: size };
      },
      takeInput: (maxBytes) => new Uint8Array(Math.min(maxBytes, size % 50)),
      output: (bytes) => {
        const taken = Math.min(room, bytes.byteLength);
        room -= taken;
        return taken;
      },
    });
    return {
      device,
      hostEvent: (number, argument) => {
        if (number % 3 === 0) size = 1 + argument % 1000;
        if (number % 3 === 1) room = argument % 5000;
        device.pump();
      },
    };
  },
  rng: () => ({ device: new VirtioRng({ fill: (bytes) => void bytes.fill(1) }), hostEvent: () => {} }),
  balloon: () => ({
    device: new VirtioBalloon({ releaseRange: () => {}, releaseView: () => {} }),
    hostEvent: () => {},
  }),
};

/** One target for each device. */
export function virtioTargets(): FuzzTarget[] {
  return Object.entries(WORLDS).map(([name, create]) => ({
    name: `virtio-${name}`,
    corpus: [1, 2, 3].map((variant) => program(create().device, variant)),
    run: (input) => runProgram(create(), input),
  }));
}

const ram = new ArrayBuffer(RAM_BYTES);

function runProgram(world: World, input: Uint8Array<ArrayBuffer>): string {
  new Uint8Array(ram).fill(0);
  new Uint8Array(ram).set(input.subarray(0, IMAGE_BYTES));
  const memory = new GuestMemory(ram);
  const words = new Int32Array(new SharedArrayBuffer(64));
  let interrupts = 0;
  const interrupt = new InterruptStatus(words, 0, { trigger: () => interrupts++ });
  const transport = new MmioTransport(world.device, memory, interrupt);
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
        transport.notify(value % 4);
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
  descriptor(0, DATA, 44, variant === 2 ? 2 : 1, 1);
  descriptor(1, DATA + 0x100, 512, variant === 3 ? 1 : 3, 2);
  descriptor(2, DATA + 0x380, variant === 2 ? 4096 : 1, 2, 0);
  for (let entry = 0; entry < 16; entry++) image.setUint16(AVAIL + 4 + entry * 2, 0, true);
  image.setUint16(AVAIL + 2, variant, true);
  image.setUint32(DATA, variant === 3 ? 1 : 0, true);
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
  operations.push([4, 0, AVAIL, 8 << 16], [3, 0, 0, 0], [3, 0, 0, 1], [2, 2, abi.VIRTIO_MMIO_CONFIG, 0]);
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
