import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { RateLimiter } from "../../devices/rate_limiter.ts";
import * as blk from "../../devices/virtio_blk.ts";
import { QueueError } from "../../src/virtio/descriptor_chain.ts";
import { FakeDriver } from "../support/fake_driver.ts";
import { Random } from "../support/random.ts";

const SECTOR = 512;

class MemoryDisk implements blk.BlockBackend {
  readonly bytes = new Uint8Array(8 * SECTOR);
  readonly sizeBytes = 8 * SECTOR;
  readonly unitBytes = 65_536;
  readonly readOnly: boolean;
  flushes = 0;
  failing = false;
  /** true: requests wait until {@linkcode endOne} or {@linkcode finish} */
  slow = false;
  readonly waiting: (() => void)[] = [];
  constructor(readOnly = false) {
    this.readOnly = readOnly;
  }
  read(views: Uint8Array[], diskOffset: number, done: (error?: unknown) => void): void {
    this.#begin(() => {
      if (this.failing) return done(new RangeError("host failed"));
      for (const view of views) {
        view.set(this.bytes.subarray(diskOffset, diskOffset + view.byteLength));
        diskOffset += view.byteLength;
      }
      done();
    });
  }
  write(views: Uint8Array[], diskOffset: number, done: () => void): void {
    this.#begin(() => {
      for (const view of views) {
        this.bytes.set(view, diskOffset);
        diskOffset += view.byteLength;
      }
      done();
    });
  }
  flush(done: () => void): void {
    this.#begin(() => {
      this.flushes++;
      done();
    });
  }
  writeZeroes(diskOffset: number, sizeBytes: number, _unmap: boolean, done: () => void): void {
    this.#begin(() => {
      this.bytes.fill(0, diskOffset, diskOffset + sizeBytes);
      done();
    });
  }
  endOne(index: number): void {
    this.waiting.splice(index, 1)[0]?.();
  }
  finish(): void {
    while (this.waiting.length > 0) this.endOne(0);
  }
  #begin(work: () => void): void {
    if (this.slow) this.waiting.push(work);
    else work();
  }
}

function create(
  readOnly = false,
  options: Partial<blk.BlockOptions> = {},
): { disk: MemoryDisk; driver: FakeDriver; device: blk.VirtioBlk; errors: unknown[] } {
  const disk = new MemoryDisk(readOnly);
  const driver = new FakeDriver();
  const errors: unknown[] = [];
  const device = new blk.VirtioBlk(disk, {
    serial: "disk0",
    onHostError: (error) => errors.push(error),
    ...options,
  });
  device.activate({ features: 0n, queues: [driver.deviceQueue], configChanged: () => {} });
  return { disk, driver, device, errors };
}

function header(type: number, sector = 0n): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setUint32(0, type, true);
  view.setBigUint64(8, sector, true);
  return new Uint8Array(view.buffer);
}

function zeroSegment(sector: number, sectors: number, flags = 0): Uint8Array {
  const view = new DataView(new ArrayBuffer(16));
  view.setBigUint64(0, BigInt(sector), true);
  view.setUint32(8, sectors, true);
  view.setUint32(12, flags, true);
  return new Uint8Array(view.buffer);
}

/** Sends one request and returns its status byte and used length. */
function request(
  { driver, device }: ReturnType<typeof create>,
  readable: Uint8Array[],
  writable: number[],
): { status: number; writtenBytes: number; data: Uint8Array } {
  const { writableAddrs } = driver.send(readable, writable);
  device.notify(0);
  const last = writableAddrs.at(-1) ?? 0;
  const lastSize = writable.at(-1) ?? 0;
  const data = writable.length > 1
    ? driver.memory.copyOut(writableAddrs[0] ?? 0, writable[0] ?? 0)
    : new Uint8Array();
  return {
    status: driver.memory.readU8(last + lastSize - 1),
    writtenBytes: driver.used().at(-1)?.writtenBytes ?? -1,
    data,
  };
}

Deno.test("VirtioBlk writes and reads back sectors", () => {
  const vm = create();
  const data = new Random(1).bytes(2 * SECTOR);
  equal(request(vm, [header(blk.VIRTIO_BLK_T_OUT, 3n), data], [1]).status, blk.VIRTIO_BLK_S_OK);
  const read = request(vm, [header(blk.VIRTIO_BLK_T_IN, 3n)], [2 * SECTOR, 1]);
  equal(read.status, blk.VIRTIO_BLK_S_OK);
  equal(read.writtenBytes, 2 * SECTOR + 1);
  deepEqual(read.data, data);
});

Deno.test("VirtioBlk takes header, data and status cut into any buffers", () => {
  const vm = create();
  const data = new Random(2).bytes(SECTOR);
  const head = header(blk.VIRTIO_BLK_T_OUT, 1n);
  const parts = [head.slice(0, 5), head.slice(5), data.slice(0, 100), data.slice(100)];
  equal(request(vm, parts, [1]).status, blk.VIRTIO_BLK_S_OK);
  deepEqual(vm.disk.bytes.slice(SECTOR, 2 * SECTOR), data);
  // data and status in one buffer
  vm.driver.send([header(blk.VIRTIO_BLK_T_IN, 1n)], [SECTOR + 1]);
  vm.device.notify(0);
  equal(vm.driver.used().at(-1)?.writtenBytes, SECTOR + 1);
});

Deno.test("VirtioBlk completes a read that has no writable byte, with length 0", () => {
  const vm = create();
  vm.driver.send([header(blk.VIRTIO_BLK_T_IN)], []);
  vm.device.notify(0);
  deepEqual(vm.driver.used(), [{ head: 0, writtenBytes: 0 }]);
});

Deno.test("VirtioBlk answers requests beyond the disk's end with an error", () => {
  for (const sector of [8n, 7n, 2n ** 55n, 2n ** 64n - 1n]) {
    const vm = create();
    equal(request(vm, [header(blk.VIRTIO_BLK_T_IN, sector)], [2 * SECTOR, 1]).status, blk.VIRTIO_BLK_S_IOERR);
    equal(request(vm, [header(blk.VIRTIO_BLK_T_OUT, sector), new Uint8Array(2 * SECTOR)], [1]).status, 1);
  }
});

Deno.test("VirtioBlk answers broken sectors and a broken header with an error", () => {
  const vm = create();
  equal(request(vm, [header(blk.VIRTIO_BLK_T_OUT), new Uint8Array(100)], [1]).status, blk.VIRTIO_BLK_S_IOERR);
  equal(request(vm, [new Uint8Array(8)], [1]).status, blk.VIRTIO_BLK_S_IOERR);
});

Deno.test("VirtioBlk answers types that it does not know with UNSUPP and gives the chain back", () => {
  const vm = create();
  for (const type of [2, 3, 5, 99, 0xffff_ffff]) {
    equal(request(vm, [header(type)], [1]).status, blk.VIRTIO_BLK_S_UNSUPP);
  }
  equal(vm.driver.used().length, 5);
});

Deno.test("VirtioBlk flushes, and tells its id", () => {
  const vm = create();
  equal(request(vm, [header(blk.VIRTIO_BLK_T_FLUSH)], [1]).status, blk.VIRTIO_BLK_S_OK);
  equal(vm.disk.flushes, 1);
  const id = request(vm, [header(blk.VIRTIO_BLK_T_GET_ID)], [20, 1]);
  equal(id.status, blk.VIRTIO_BLK_S_OK);
  equal(new TextDecoder().decode(id.data.subarray(0, 5)), "disk0");
});

Deno.test("VirtioBlk discards and writes zeroes inside the disk only", () => {
  const vm = create();
  vm.disk.bytes.fill(7);
  equal(
    request(vm, [header(blk.VIRTIO_BLK_T_WRITE_ZEROES), zeroSegment(1, 2)], [1]).status,
    blk.VIRTIO_BLK_S_OK,
  );
  equal(vm.disk.bytes[SECTOR - 1], 7);
  equal(vm.disk.bytes[SECTOR], 0);
  equal(vm.disk.bytes[3 * SECTOR], 7);
  equal(
    request(vm, [header(blk.VIRTIO_BLK_T_DISCARD), zeroSegment(7, 2)], [1]).status,
    blk.VIRTIO_BLK_S_IOERR,
  );
  equal(
    request(vm, [header(blk.VIRTIO_BLK_T_DISCARD), zeroSegment(0, 1, 1)], [1]).status,
    blk.VIRTIO_BLK_S_UNSUPP,
  );
  equal(request(vm, [header(blk.VIRTIO_BLK_T_DISCARD)], [1]).status, blk.VIRTIO_BLK_S_IOERR);
});

Deno.test("VirtioBlk refuses writes to a read-only disk", () => {
  const vm = create(true);
  equal(
    request(vm, [header(blk.VIRTIO_BLK_T_OUT), new Uint8Array(SECTOR)], [1]).status,
    blk.VIRTIO_BLK_S_IOERR,
  );
  ok((vm.device.features & blk.VIRTIO_BLK_F_RO) !== 0n);
});

Deno.test("VirtioBlk answers a failure of the host with an error and reports it", () => {
  const vm = create();
  vm.disk.failing = true;
  equal(request(vm, [header(blk.VIRTIO_BLK_T_IN)], [SECTOR, 1]).status, blk.VIRTIO_BLK_S_IOERR);
  equal(vm.errors.length, 1);
});

Deno.test("VirtioBlk survives random requests and gives every chain back", () => {
  const random = new Random(0xb10c);
  for (let round = 0; round < 5_000; round++) {
    const vm = create();
    const head = random.bytes(random.below(40));
    if (head.length >= 16 && random.below(2) === 0) {
      head.set(header(random.below(16), BigInt(random.below(12))));
    }
    const writable = Array.from({ length: random.below(3) }, () => 1 + random.below(1024));
    if (head.length + writable.length === 0) continue;
    vm.driver.send(head.length === 0 ? [] : [head], writable);
    vm.device.notify(0);
    equal(vm.driver.used().length, 1, `seed 0xb10c round ${round}`);
  }
});

Deno.test("VirtioBlk runs requests in parallel, and gives each back when it ends, in any order", () => {
  const vm = create();
  vm.disk.slow = true;
  const heads = [0n, 1n, 2n].map((sector) =>
    vm.driver.send([header(blk.VIRTIO_BLK_T_IN, sector)], [SECTOR, 1]).head
  );
  equal(vm.device.notify(0), false);
  deepEqual([vm.driver.used().length, vm.disk.waiting.length], [0, 3]);
  vm.disk.endOne(1);
  equal(vm.driver.interrupts, 0);
  vm.device.flushCompleted();
  equal(vm.driver.interrupts, 1);
  vm.disk.finish();
  vm.device.flushCompleted();
  deepEqual(vm.driver.used().map(({ head }) => head), [heads[1], heads[0], heads[2]]);
});

Deno.test("VirtioBlk ends its requests before a reset is over, and touches nothing afterwards", () => {
  const vm = create();
  vm.disk.slow = true;
  vm.disk.bytes.fill(9);
  const { writableAddrs } = vm.driver.send([header(blk.VIRTIO_BLK_T_IN)], [SECTOR, 1]);
  vm.device.notify(0);
  vm.device.reset();
  equal(vm.disk.waiting.length, 0);
  equal(vm.driver.memory.readU8(writableAddrs[0] ?? 0), 9);
  vm.driver.send([header(blk.VIRTIO_BLK_T_IN)], [SECTOR, 1]);
  vm.device.notify(0);
  equal(vm.disk.waiting.length, 0);
});

Deno.test("VirtioBlk takes no more requests at once than the queue holds, whatever the driver claims", () => {
  const vm = create();
  vm.disk.slow = true;
  const { head } = vm.driver.send([header(blk.VIRTIO_BLK_T_IN)], [SECTOR, 1]);
  for (let offered = 1; offered < 16; offered++) vm.driver.offer(head);
  vm.device.notify(0);
  equal(vm.disk.waiting.length, 16);
  vm.driver.offer(head);
  throws(() => vm.device.notify(0), QueueError);
  equal(vm.disk.waiting.length, 16);
});

Deno.test("VirtioBlk that is held to a rate goes on when its time has come", () => {
  let now = 0;
  const wakes: number[] = [];
  const limiter = new RateLimiter({ operationsPerSecond: 2 }, () => now);
  const vm = create(false, { limiter, wakeIn: (delayMs) => wakes.push(delayMs) });
  for (let count = 0; count < 4; count++) vm.driver.send([header(blk.VIRTIO_BLK_T_FLUSH)], [1]);
  equal(vm.device.notify(0), false);
  equal(vm.disk.flushes, 2);
  equal(vm.device.notify(0), false);
  deepEqual(wakes, [500]);
  now += 500;
  vm.device.resume();
  equal(vm.disk.flushes, 3);
  now += 1000;
  vm.device.resume();
  equal(vm.disk.flushes, 4);
  deepEqual(vm.driver.used().length, 4);
});

Deno.test("VirtioBlk offers a queue a vCPU, and the disk's topology", () => {
  const { device } = create(false, { queueCount: 4 });
  deepEqual(device.queueSizes, [256, 256, 256, 256]);
  ok((device.features & blk.VIRTIO_BLK_F_MQ) !== 0n);
  const view = new DataView(device.config().buffer);
  equal(view.getUint16(34, true), 4);
  // physical blocks of 2^3 sectors, transfers best 128 sectors long
  deepEqual([view.getUint8(24), view.getUint16(26, true), view.getUint32(28, true)], [3, 8, 128]);
});
