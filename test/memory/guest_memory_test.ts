import { deepEqual, equal, throws } from "node:assert/strict";
import { GuestAddressError, GuestMemory } from "../../src/memory/guest_memory.ts";

const KIB = 1024;

Deno.test("GuestMemory accepts the last byte of RAM and rejects the one after it", () => {
  const memory = new GuestMemory(new ArrayBuffer(4 * KIB));
  memory.writeU8(4 * KIB - 1, 7);
  equal(memory.readU8(4 * KIB - 1), 7);
  throws(() => memory.readU8(4 * KIB), GuestAddressError);
});

Deno.test("GuestMemory rejects an access that starts in RAM and crosses its end", () => {
  const memory = new GuestMemory(new ArrayBuffer(4 * KIB));
  throws(() => memory.readU32(4 * KIB - 2), GuestAddressError);
  throws(() => memory.slice(4 * KIB - 8, 9), GuestAddressError);
  throws(() => memory.copyIn(4 * KIB - 1, new Uint8Array(2)), GuestAddressError);
});

Deno.test("GuestMemory rejects addresses that no guest can mean", () => {
  const memory = new GuestMemory(new ArrayBuffer(4 * KIB));
  for (const addr of [-1, 0.5, NaN, Infinity, 2 ** 53 + 2, 2 ** 64, 2 ** 32]) {
    throws(() => memory.readU8(addr), GuestAddressError, `address ${addr}`);
  }
  for (const size of [-1, 0.5, NaN, 2 ** 53]) {
    throws(() => memory.slice(0, size), GuestAddressError, `size ${size}`);
  }
});

Deno.test("GuestMemory.readU64 keeps what is above 2^53 out of every range", () => {
  const memory = new GuestMemory(new ArrayBuffer(4 * KIB));
  memory.writeU64(0, 0xffff_ffff_ffff_ffffn);
  equal(memory.contains(memory.readU64(0), 0), false);
  memory.writeU64(0, 0x0020_0000_0000_0001n);
  equal(memory.contains(memory.readU64(0), 1), false);
});

Deno.test("GuestMemory does not let a range cross from one region into the next", () => {
  const regions = [
    { guestAddr: 0, sizeBytes: KIB, bufferOffset: 0 },
    { guestAddr: 4 * KIB, sizeBytes: KIB, bufferOffset: KIB },
  ];
  const memory = new GuestMemory(new ArrayBuffer(2 * KIB), regions);
  memory.writeU8(4 * KIB, 9);
  equal(memory.readU8(4 * KIB), 9);
  throws(() => memory.readU8(KIB), GuestAddressError);
  throws(() => memory.slice(KIB - 1, 2), GuestAddressError);
  throws(() => memory.readU8(4 * KIB - 1), GuestAddressError);
});

Deno.test("GuestMemory.copyOut is not changed by a guest that writes later", () => {
  const memory = new GuestMemory(new ArrayBuffer(KIB));
  memory.copyIn(0, Uint8Array.of(1, 2, 3));
  const copy = memory.copyOut(0, 3);
  memory.fill(0, 3, 9);
  deepEqual([...copy], [1, 2, 3]);
});

Deno.test("GuestMemory stores and loads ring words", () => {
  const memory = new GuestMemory(new ArrayBuffer(KIB));
  memory.storeU16(10, 0xbeef);
  equal(memory.loadU16(10), 0xbeef);
  equal(memory.readU16(10), 0xbeef);
});
