import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE } from "../../src/virtio/abi.ts";
import { QueueError } from "../../src/virtio/descriptor_chain.ts";
import { DATA_ADDR, FakeDriver, INDIRECT_ADDR } from "../support/fake_driver.ts";
import { Random } from "../support/random.ts";

const NEXT = VRING_DESC_F_NEXT;
const WRITE = VRING_DESC_F_WRITE;
const INDIRECT = VRING_DESC_F_INDIRECT;

Deno.test("a chain that runs in a circle is refused", () => {
  const driver = new FakeDriver();
  driver.setDescriptor(0, { addr: DATA_ADDR, len: 4, flags: NEXT, next: 1 });
  driver.setDescriptor(1, { addr: DATA_ADDR, len: 4, flags: NEXT, next: 0 });
  driver.offer(0);
  throws(() => driver.queue.pop(), { name: "QueueError", message: /loop/ });
});

Deno.test("a head and a next beyond the table are refused", () => {
  const driver = new FakeDriver();
  driver.offer(16);
  throws(() => driver.queue.pop(), QueueError);
  const other = new FakeDriver();
  other.setDescriptor(0, { addr: DATA_ADDR, len: 4, flags: NEXT, next: 0xffff });
  other.offer(0);
  throws(() => other.queue.pop(), QueueError);
});

Deno.test("a buffer that is not RAM from end to end is refused", () => {
  for (const [addr, len] of [[0x10000, 1], [0xffff, 2], [2 ** 52, 1], [0, 0xffff_ffff], [-16, 16]] as const) {
    const driver = new FakeDriver();
    driver.setDescriptor(0, { addr, len });
    driver.offer(0);
    throws(() => driver.queue.pop(), QueueError, `${addr}+${len}`);
  }
});

Deno.test("a readable buffer behind a writable one is refused", () => {
  const driver = new FakeDriver();
  driver.setDescriptor(0, { addr: DATA_ADDR, len: 4, flags: WRITE | NEXT, next: 1 });
  driver.setDescriptor(1, { addr: DATA_ADDR, len: 4 });
  driver.offer(0);
  throws(() => driver.queue.pop(), QueueError);
});

Deno.test("an indirect table is followed", () => {
  const driver = new FakeDriver();
  driver.memory.copyIn(DATA_ADDR, Uint8Array.of(1, 2, 3, 4));
  driver.sendIndirect([
    { addr: DATA_ADDR, len: 2, flags: NEXT, next: 1 },
    { addr: DATA_ADDR + 2, len: 2, flags: NEXT, next: 2 },
    { addr: DATA_ADDR + 16, len: 8, flags: WRITE },
  ]);
  const chain = driver.queue.pop();
  ok(chain);
  deepEqual([...chain.reader.copy(4) ?? []], [1, 2, 3, 4]);
  equal(chain.writer.availableBytes, 8);
});

Deno.test("an indirect table inside another, or with a NEXT beside it, is refused", () => {
  const nested = new FakeDriver();
  nested.sendIndirect([{ addr: INDIRECT_ADDR, len: 16, flags: INDIRECT }]);
  throws(() => nested.queue.pop(), QueueError);
  const beside = new FakeDriver();
  beside.setDescriptor(0, { addr: INDIRECT_ADDR, len: 16, flags: INDIRECT | NEXT, next: 1 });
  beside.offer(0);
  throws(() => beside.queue.pop(), QueueError);
});

Deno.test("an indirect table that is empty, broken off, outside RAM or in a circle is refused", () => {
  for (const sizeBytes of [0, 15, 17, 0xffff_fff0]) {
    const driver = new FakeDriver();
    driver.sendIndirect([{ addr: DATA_ADDR, len: 1 }], sizeBytes);
    throws(() => driver.queue.pop(), QueueError, `${sizeBytes} bytes`);
  }
  const circle = new FakeDriver();
  circle.sendIndirect([{ addr: DATA_ADDR, len: 1, flags: NEXT, next: 0 }]);
  throws(() => circle.queue.pop(), QueueError);
});

Deno.test("buffers that name the same RAM again and again are counted each time", () => {
  const driver = new FakeDriver();

  const count = 700;
  const descriptors = Array.from({ length: count }, (_, index) => ({
    addr: 0,
    len: 0xffff,
    flags: index < count - 1 ? NEXT | WRITE : WRITE,
    next: index + 1,
  }));
  driver.sendIndirect(descriptors);
  equal(driver.queue.pop()?.writer.availableBytes, count * 0xffff);
});

Deno.test("chains of random bytes are refused or proven, and never leave memory", () => {
  const random = new Random(0x5eed);
  for (let round = 0; round < 20_000; round++) {
    const driver = new FakeDriver();
    for (let index = 0; index < 16; index++) {
      driver.setDescriptor(index, {
        addr: random.below(2) === 0 ? random.below(0x10000) : random.below(2 ** 40),
        len: random.below(2) === 0 ? random.below(256) : random.below(2 ** 32),
        flags: random.below(8),
        next: random.below(20),
      });
    }
    driver.offer(random.below(20));
    try {
      const chain = driver.queue.pop();
      ok(chain);
      chain.reader.views(chain.reader.availableBytes);
      chain.writer.views(chain.writer.availableBytes);
    } catch (error) {
      ok(error instanceof QueueError, `seed 0x5eed round ${round}: ${error}`);
    }
  }
});
