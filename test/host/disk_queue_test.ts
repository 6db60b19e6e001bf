import { deepEqual, equal, ok } from "node:assert/strict";
import { IoUring } from "../../src/ffi/io_uring.ts";
import { Iovec } from "../../src/ffi/iovec.ts";
import { Mapping } from "../../src/ffi/mapping.ts";
import { EPOLL, Poller } from "../../src/ffi/poller.ts";
import { DiskQueue } from "../../src/host/disk_queue.ts";
import { type Disk, openDisk } from "../../src/host/open_disk.ts";
import { hasTool, run } from "../support/command.ts";
import { Random } from "../support/random.ts";

const MIB = 1024 * 1024;
const SLOT = 96 * 1024;
const SLOTS = 32;

/** An overlay over random bytes, served through a ring (or without one), and what it should read as. */
function inFolder(
  withRing: boolean,
  test: (
    parts: { queue: DiskQueue; disk: Disk; ram: Uint8Array<ArrayBuffer>; wait: () => void; path: string },
    expected: Uint8Array<ArrayBuffer>,
  ) => void,
): () => void {
  return () => {
    const folder = Deno.makeTempDirSync({ prefix: "paddock-disk-" });
    try {
      using mapping = Mapping.anonymous("test", SLOT * SLOTS);
      const ring = withRing ? IoUring.open(64, mapping) : undefined;
      using poller = new Poller();
      if (ring !== undefined) {
        poller.add(ring.eventFd, EPOLL.IN, () => ring.acknowledge());
        poller.atRoundEnd(() => ring.serve());
      }
      const base = new Random(7).bytes(6 * MIB + 512);
      Deno.writeFileSync(`${folder}/base.raw`, base);
      const path = `${folder}/overlay.qcow2`;
      const iovec = new Iovec(mapping.buffer, mapping.hostAddr);
      const overlayOf = { path: `${folder}/base.raw`, format: "raw" } as const;
      const disk = openDisk({ path, format: "qcow2", readOnly: false, overlayOf }, iovec);
      const ram = new Uint8Array(mapping.buffer);
      const wait = (): void => {
        // A test prepares requests outside of the poller's rounds
        ring?.serve();
        poller.poll(1);
      };
      try {
        test({ queue: new DiskQueue(disk, ring), disk, ram, wait, path }, base.slice());
      } finally {
        ring?.[Symbol.dispose]();
        disk[Symbol.dispose]();
      }
      if (hasTool("qemu-img")) run("qemu-img", ["check", path]);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  };
}

for (const withRing of [true, false]) {
  Deno.test(
    `DiskQueue with 32 requests under way is a plain buffer${withRing ? "" : ", also without io_uring"}`,
    inFolder(withRing, ({ queue, disk, ram, wait }, expected) => {
      const random = new Random(0xd15c);
      for (let round = 0; round < 60; round++) {
        let underWay = 0;
        const begin = (): (error?: unknown) => void => {
          underWay++;
          return (error) => {
            equal(error, undefined);
            underWay--;
          };
        };
        const reads: { at: number; view: Uint8Array }[] = [];
        for (let slot = 0; slot < SLOTS; slot++) {
          // Ranges that do not overlap: their order is nobody's business.
          const from = Math.floor(expected.length / SLOTS / 512) * 512 * slot;
          const at = from + random.below(64) * 512;
          const view = ram.subarray(slot * SLOT, slot * SLOT + (1 + random.below(180)) * 512);
          switch (random.below(5)) {
            case 0:
            case 1: {
              view.set(random.bytes(view.byteLength));
              expected.set(view, at);
              const cut = random.below(view.byteLength);
              queue.write([view.subarray(0, cut), view.subarray(cut)], at, begin());
              break;
            }
            case 2:
            case 3:
              reads.push({ at, view });
              queue.read([view], at, begin());
              break;
            default:
              queue.writeZeroes(at, view.byteLength, random.below(2) === 0, begin());
              expected.fill(0, at, at + view.byteLength);
          }
        }
        queue.flush(begin());
        while (underWay > 0) wait();
        for (const { at, view } of reads) {
          ok(view.every((byte, index) => byte === expected[at + index]), `seed 0xd15c round ${round}`);
        }
      }
      const all = new Uint8Array(disk.sizeBytes);
      disk.read([all], 0);
      deepEqual(all, expected.subarray(0, disk.sizeBytes));
    }),
  );
}

Deno.test(
  "DiskQueue does what follows a zeroing after it, and finish() waits for all",
  inFolder(true, ({ queue, ram }) => {
    const order: string[] = [];
    const data = ram.subarray(0, SLOT).fill(1);
    queue.write([data], 0, () => order.push("write 1"));
    queue.write([data], 0, () => order.push("write 2"));
    queue.writeZeroes(0, SLOT, true, () => order.push("zero"));
    const back = ram.subarray(SLOT, 2 * SLOT).fill(7);
    queue.read([back], 0, () => order.push("read"));
    queue.finish();
    deepEqual(order, ["write 1", "write 2", "zero", "read"]);
    ok(back.every((byte) => byte === 0));
  }),
);
