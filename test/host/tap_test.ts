import { equal, ok } from "node:assert/strict";
import { Iovec } from "../../src/ffi/iovec.ts";
import { Poller } from "../../src/ffi/poller.ts";
import { Tap } from "../../src/host/tap.ts";
import { exists, hasTool, run } from "../support/command.ts";

const HEADER_BYTES = 12;
/** An interface name has 15 bytes. */
const NAME = `pdkt${Deno.pid}`;

const ignore = Deno.uid() !== 0 || !exists("/dev/net/tun") || !hasTool("ip");
const suffix = ignore ? " (skipped: needs root, /dev/net/tun and ip)" : "";

/** Opens the device and has `test` look at it. */
function withTap(queueCount: number, test: (tap: Tap, poller: Poller) => void): void {
  using poller = new Poller();
  const iovec = new Iovec(new ArrayBuffer(0), 0n);
  using tap = new Tap(NAME, { headerBytes: HEADER_BYTES, queueCount, iovec, poller, onPackets: () => {} });
  test(tap, poller);
}

/** A device that exists before the test and is gone after it. */
function withDevice(words: string[], test: () => void): void {
  run("ip", ["tuntap", "add", NAME, "mode", "tap", ...words]);
  try {
    test();
  } finally {
    run("ip", ["link", "del", NAME]);
  }
}

/** Queues that the kernel has for the device now. */
function kernelQueues(): number {
  return [...Deno.readDirSync(`/sys/class/net/${NAME}/queues`)].filter(({ name }) => name.startsWith("rx-"))
    .length;
}

function tapTest(name: string, test: () => void): void {
  Deno.test({ name: `${name}${suffix}`, ignore, fn: test });
}

tapTest(
  "Tap makes a device with as many queues as asked for, uses the first, and leaves nothing behind",
  () => {
    withTap(4, (tap) => {
      equal(tap.queues.length, 4);
      ok(tap.offloads > 0);
      equal(kernelQueues(), 1);
    });
    ok(!exists(`/sys/class/net/${NAME}`));
  },
);

tapTest("Tap uses more and fewer queues, and offloads stay as they were set", () => {
  withTap(4, (tap) => {
    for (const count of [3, 1, 4, 4, 2, 1]) {
      ok(tap.useQueues(count));
      equal(kernelQueues(), count);
      tap.setOffloads(1);
    }
    const started = performance.now();
    for (let round = 0; round < 10; round++) {
      tap.useQueues(4);
      tap.useQueues(1);
    }
    console.log(`a queue is taken up and dropped in ${((performance.now() - started) / 30).toFixed(3)} ms`);
  });
});

tapTest("Tap watches no queue that it dropped", () => {
  withTap(2, (tap, poller) => {
    tap.useQueues(2);
    tap.queues[1]?.wantPackets(true);
    tap.useQueues(1);
    let timerRan = false;
    poller.after(50, () => timerRan = true);
    // The kernel says of a dropped queue at once, for ever, that it has an error: only the timer may end this wait.
    poller.poll(2000);
    ok(timerRan);
  });
});

tapTest("Tap has one queue of a device that was made with one", () => {
  withDevice(["vnet_hdr"], () =>
    withTap(4, (tap) => {
      equal(tap.queues.length, 1);
      ok(tap.useQueues(1));
    }));
});

tapTest("Tap takes a device that was made with many queues, for one or for many", () => {
  withDevice(["multi_queue"], () => {
    for (const queueCount of [1, 4]) {
      withTap(queueCount, (tap) => {
        equal(tap.queues.length, queueCount);
        equal(kernelQueues(), 1);
      });
    }
  });
});
