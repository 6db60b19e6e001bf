import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { VRING_AVAIL_F_NO_INTERRUPT } from "../../src/virtio/abi.ts";
import { QueueError } from "../../src/virtio/descriptor_chain.ts";
import { SplitQueue } from "../../src/virtio/split_queue.ts";
import { AVAIL_ADDR, DATA_ADDR, DESC_ADDR, FakeDriver, USED_ADDR } from "../support/fake_driver.ts";

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

Deno.test("SplitQueue.pop() gives a chain's buffers in order and push() gives it back with its length", () => {
  const driver = new FakeDriver();
  const { head, writableAddrs } = driver.send([bytes(1, 2), bytes(3)], [4]);
  const chain = driver.queue.pop();
  ok(chain);
  deepEqual([...chain.reader.copy(3) ?? []], [1, 2, 3]);
  ok(chain.writer.write(bytes(9, 8)));
  driver.queue.push(chain, chain.writer.writtenBytes);
  deepEqual(driver.used(), [{ head, writtenBytes: 2 }]);
  deepEqual([...driver.memory.copyOut(writableAddrs[0] ?? 0, 2)], [9, 8]);
  equal(driver.queue.pop(), undefined);
});

Deno.test("SplitQueue.pop() takes the indexes around 2^16", () => {
  const driver = new FakeDriver({ size: 2 });
  for (let round = 0; round < 70_000; round++) {
    driver.setDescriptor(0, { addr: DATA_ADDR, len: 1, flags: 2 });
    driver.offer(0);
    const chain = driver.queue.pop();
    ok(chain, `round ${round}`);
    driver.queue.push(chain, 0);
  }
  equal(driver.memory.readU16(USED_ADDR + 2), 70_000 & 0xffff);
});

Deno.test("SplitQueue.pop() rejects an available index beyond the queue size", () => {
  const driver = new FakeDriver();
  driver.memory.writeU16(AVAIL_ADDR + 2, 17);
  throws(() => driver.queue.pop(), QueueError);
});

Deno.test("SplitQueue refuses sizes that are 0, no power of two, or more than offered", () => {
  const { memory, layout } = new FakeDriver();
  for (const size of [0, 3, 17, 32, 65_536, -1, NaN]) {
    throws(() => new SplitQueue(memory, { ...layout, size }, 16), QueueError, `size ${size}`);
  }
});

Deno.test("SplitQueue refuses rings that are misaligned or not in RAM, before it reads them", () => {
  const { memory, layout } = new FakeDriver();
  const wrong = [
    { descAddr: DESC_ADDR + 8 },
    { availAddr: AVAIL_ADDR + 1 },
    { usedAddr: USED_ADDR + 2 },
    { descAddr: 0x10000 - 16 },
    { availAddr: 0x10000 - 4 },
    { usedAddr: 0x10000 },
    { descAddr: 2 ** 63 },
  ];
  for (const part of wrong) {
    throws(() => new SplitQueue(memory, { ...layout, ...part }, 16), QueueError, JSON.stringify(part));
  }
});

Deno.test("SplitQueue.needsInterrupt() follows NO_INTERRUPT without EVENT_IDX", () => {
  const driver = new FakeDriver();
  driver.send([], [1]);
  driver.deviceQueue.drain(() => {});
  equal(driver.interrupts, 1);
  driver.memory.writeU16(AVAIL_ADDR, VRING_AVAIL_F_NO_INTERRUPT);
  driver.send([], [1]);
  driver.deviceQueue.drain(() => {});
  equal(driver.interrupts, 1);
});

Deno.test("SplitQueue.needsInterrupt() with EVENT_IDX waits for the entry that the driver named", () => {
  const driver = new FakeDriver({ eventIdx: true });
  driver.setUsedEvent(2);
  for (const expected of [0, 0, 1, 1]) {
    driver.send([], [1]);
    driver.deviceQueue.drain(() => {});
    equal(driver.interrupts, expected);
  }
});

Deno.test("SplitQueue.needsInterrupt() with EVENT_IDX interrupts for a batch that passes the named entry", () => {
  const driver = new FakeDriver({ eventIdx: true });
  driver.setUsedEvent(1);
  for (let count = 0; count < 3; count++) driver.send([], [1]);
  driver.deviceQueue.drain(() => {});
  equal(driver.interrupts, 1);
});

Deno.test("SplitQueue.enableNotify() with EVENT_IDX names the next entry and sees what came meanwhile", () => {
  const driver = new FakeDriver({ eventIdx: true });
  equal(driver.queue.enableNotify(), false);
  equal(driver.availEvent, 0);
  driver.send([], [1]);
  equal(driver.queue.enableNotify(), true);
  driver.deviceQueue.drain(() => {});
  equal(driver.availEvent, 1);
});

Deno.test("SplitQueue.undoPop() makes the chain come again", () => {
  const driver = new FakeDriver();
  const { head } = driver.send([], [1]);
  equal(driver.queue.pop()?.head, head);
  driver.queue.undoPop();
  equal(driver.queue.pop()?.head, head);
});

Deno.test("DeviceQueue.drain() gives a chain back although its handler throws", () => {
  const driver = new FakeDriver();
  const { head } = driver.send([], [1]);
  throws(() =>
    driver.deviceQueue.drain(() => {
      throw new QueueError("handler");
    }), QueueError);
  deepEqual(driver.used(), [{ head, writtenBytes: 0 }]);
});

Deno.test("DeviceQueue.drain() ends after one queue's worth although the driver refills for ever", () => {
  const driver = new FakeDriver();
  driver.setDescriptor(0, { addr: DATA_ADDR, len: 1, flags: 2 });
  driver.offer(0);
  let handled = 0;
  const more = driver.deviceQueue.drain(() => {
    handled++;
    driver.offer(0);
  });
  equal(more, true);
  equal(handled, 16);
});
