import assert from "node:assert/strict";
import { EPOLL, Poller } from "../../src/ffi/poller.ts";
import { IoUring } from "../../src/ffi/io_uring.ts";
import { Mapping } from "../../src/ffi/mapping.ts";
import { close, O, open } from "../../src/ffi/sys.ts";
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

ringTest("io_uring rings the eventfd, and goes round its rings many times", ({ ring, ram, fd }) => {
  using poller = new Poller();
  let rings = 0;
  let done = 0;
  poller.add(ring.eventFd, EPOLL.IN, () => {
    rings++;
    ring.reap();
  });
  for (let round = 0; round < 1000; round++) {
    while (ring.room > 0) {
      const page = ram.subarray(0, PAGE);
      ring.writev(fd, [page], (done % 16) * PAGE, (count) => {
        assert.equal(count, PAGE);
        done++;
      });
    }
    while (ring.room < 8) poller.poll(1000);
  }
  assert.equal(done, 8000);
  assert.ok(rings >= 1000);
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
