import assert from "node:assert/strict";
import { EPOLL, Poller } from "../../src/ffi/poller.ts";
import { IoUring } from "../../src/ffi/io_uring.ts";
import { Mapping } from "../../src/ffi/mapping.ts";
import { close, O, open } from "../../src/ffi/sys.ts";
import { run } from "../support/command.ts";
import { ERRNO } from "../../src/ffi/errno.ts";

const PAGE = 4096;
const absent = (() => {
  using ram = Mapping.anonymous("test", PAGE);
  using ring = IoUring.open(1, ram);
  return ring === undefined;
})();

function ringTest(
  name: string,
  body: (parts: { ring: IoUring; ram: Uint8Array<ArrayBuffer>; fd: number }) => void,
): void {
  Deno.test({
    name: absent ? `${name} (skipped: this kernel has no io_uring)` : name,
    ignore: absent,
    fn: async () => {
      const path = await Deno.makeTempFile();
      const fd = open(path, O.RDWR);
      try {
        using mapping = Mapping.anonymous("test", 64 * PAGE);
        using ring = IoUring.open(8, mapping);
        assert.ok(ring);
        body({ ring, ram: new Uint8Array(mapping.buffer), fd });
      } finally {
        close(fd);
        await Deno.remove(path);
      }
    },
  });
}

ringTest("io_uring writes and reads vectors of guest memory, and says how much", ({ ring, ram, fd }) => {
  ram.fill(0xa5, 0, PAGE);
  ram.fill(0x5a, 3 * PAGE, 4 * PAGE);
  const results: number[] = [];
  ring.writev(fd, [ram.subarray(0, PAGE), ram.subarray(3 * PAGE, 4 * PAGE)], 512, (n) => results.push(n));
  ring.finish();
  ring.fdatasync(fd, (n) => results.push(n));
  ring.finish();
  ring.readv(fd, [ram.subarray(8 * PAGE, 11 * PAGE)], 512, (n) => results.push(n));
  ring.finish();
  assert.deepEqual(results, [2 * PAGE, 0, 2 * PAGE]);
  assert.deepEqual(ram.subarray(8 * PAGE, 9 * PAGE), ram.subarray(0, PAGE));
  assert.deepEqual(ram.subarray(9 * PAGE, 10 * PAGE), ram.subarray(3 * PAGE, 4 * PAGE));
});

ringTest(
  "io_uring goes round its rings many times, as many operations at once as there is room for",
  ({ ring, ram, fd }) => {
    using poller = new Poller();
    let done = 0;
    poller.add(ring.eventFd, EPOLL.IN, () => ring.acknowledge());
    poller.atRoundEnd(() => ring.serve());
    for (let round = 0; round < 1000; round++) {
      while (ring.room > 0) {
        // Every third one of two parts
        const page = ram.subarray(0, PAGE);
        const views = done % 3 === 0 ? [page.subarray(0, 100), page.subarray(100)] : [page];
        ring.writev(fd, views, (done % 16) * PAGE, (count) => {
          assert.equal(count, PAGE);
          done++;
        });
      }
      ring.serve();
      while (ring.room < 8) poller.poll(1000);
    }
    assert.equal(done, 8000);
  },
);

ringTest("io_uring rings the eventfd for what completes later", ({ ring, ram }) => {
  const path = `${Deno.makeTempDirSync()}/fifo`;
  run("mkfifo", [path]);
  const fifo = open(path, O.RDWR);
  try {
    using poller = new Poller();
    let result: number | undefined;
    poller.add(ring.eventFd, EPOLL.IN, () => ring.acknowledge());
    poller.atRoundEnd(() => ring.serve());
    ring.readv(fifo, [ram.subarray(0, PAGE)], 0, (count) => result = count);
    ring.serve();
    assert.equal(result, undefined);
    Deno.writeTextFileSync(path, "later", { create: false });
    for (const deadline = performance.now() + 5000; result === undefined && performance.now() < deadline;) {
      poller.poll(1000);
    }
    assert.equal(result, 5);
  } finally {
    close(fifo);
    Deno.removeSync(path.replace("/fifo", ""), { recursive: true });
  }
});

ringTest("io_uring starts what is prepared while it calls back", ({ ring, ram, fd }) => {
  const order: number[] = [];
  const chain = (left: number): void =>
    ring.writev(fd, [ram.subarray(0, PAGE)], 0, () => {
      order.push(left);
      if (left > 0) chain(left - 1);
    });
  chain(5);
  ring.finish();
  assert.deepEqual(order, [5, 4, 3, 2, 1, 0]);
});

ringTest(
  "io_uring gives the errno of an operation that failed to that operation alone",
  ({ ring, ram, fd }) => {
    const results = new Map<string, number>();
    const page = [ram.subarray(0, PAGE)];
    ring.readv(-1, page, 0, (result) => results.set("bad", result));
    ring.writev(fd, page, 0, (result) => results.set("good", result));
    ring.finish();
    assert.deepEqual(Object.fromEntries(results), { bad: -ERRNO.EBADF, good: PAGE });
  },
);

ringTest("io_uring refuses more than it has room for", ({ ring, ram, fd }) => {
  for (let n = 0; n < 8; n++) ring.writev(fd, [ram.subarray(0, PAGE)], 0, () => {});
  assert.equal(ring.room, 0);
  assert.throws(() => ring.writev(fd, [ram.subarray(0, PAGE)], 0, () => {}), RangeError);
  ring.finish();
  assert.equal(ring.room, 8);
});
