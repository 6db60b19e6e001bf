import { equal, match, ok, throws } from "node:assert/strict";
import { ConfigError } from "../../src/machine/config.ts";
import { loadInitrd, loadKernel } from "../../src/machine/load_kernel.ts";
import { GuestMemory } from "../../src/memory/guest_memory.ts";
import { bzImageOf } from "../support/bzimage.ts";
import { Random } from "../support/random.ts";
import { asm, CODE_ADDR, elfOf } from "../support/tiny_guest.ts";

const MIB = 1024 * 1024;
const memory = (): GuestMemory => new GuestMemory(new ArrayBuffer(4 * MIB));

function withFile<T>(content: Uint8Array, test: (path: string) => T): T {
  const path = Deno.makeTempFileSync({ prefix: "paddock-kernel-" });
  try {
    Deno.writeFileSync(path, content);
    return test(path);
  } finally {
    Deno.removeSync(path);
  }
}

Deno.test("loadKernel() puts an ELF kernel's segment at its address", () => {
  const ram = memory();
  const kernel = withFile(elfOf(Uint8Array.of(1, 2, 3)), (path) => loadKernel(path, ram));
  equal(kernel.entryAddr, CODE_ADDR);
  equal(kernel.entry, "64-bit");
  equal(kernel.endAddr, CODE_ADDR + 3);
  equal(ram.readU8(CODE_ADDR + 2), 3);
});

Deno.test("loadKernel() enters a bzImage in 64-bit mode where its flags say so", () => {
  const code = new Uint8Array(4096).fill(9);
  const kernel = withFile(bzImageOf(code), (path) => loadKernel(path, memory()));
  equal(kernel.entry, "64-bit");
  equal(kernel.entryAddr, MIB + 0x200);
  const old = withFile(bzImageOf(code, { xloadflags: 0 }), (path) => loadKernel(path, memory()));
  equal(old.entry, "32-bit");
  equal(old.entryAddr, MIB);
});

Deno.test("loadKernel() refuses kernels that do not fit, are broken off, or are none", () => {
  const elf = elfOf(Uint8Array.from(asm.hlt));
  const change = (offset: number, value: bigint): Uint8Array => {
    const file = elf.slice();
    new DataView(file.buffer).setBigUint64(offset, value, true);
    return file;
  };
  const wrong: [string, Uint8Array][] = [
    ["empty", new Uint8Array(0)],
    ["text", new TextEncoder().encode("#!/bin/sh\n".repeat(200))],
    ["header only", elf.slice(0, 80)],
    ["segment beyond RAM", change(88, 64n * 2n ** 30n)],
    ["segment below 1 MiB", change(88, 0x1000n)],
    ["file part beyond the file", change(72, 2n ** 40n)],
    ["more in the file than in memory", change(96, 2n ** 32n)],
    ["program headers beyond the file", change(32, 2n ** 62n)],
    ["entry outside", change(24, 0x20_0000n)],
    ["old boot protocol", bzImageOf(new Uint8Array(100), { version: 0x204 })],
    ["needs more RAM", bzImageOf(new Uint8Array(100), { initSize: 64 * MIB })],
    ["no kernel behind the set-up", bzImageOf(new Uint8Array(0))],
  ];
  for (const [name, file] of wrong) {
    withFile(file, (path) => throws(() => loadKernel(path, memory()), ConfigError, name));
  }
});

Deno.test("loadKernel() says which file cannot be opened, and why", () => {
  throws(() => loadKernel("/nonexistent", memory()), (error: ConfigError) => {
    equal(error.field, "kernelPath");
    match(error.message, /"\/nonexistent": ENOENT/);
    return true;
  });
});

Deno.test("loadInitrd() places an initrd at the end of RAM, and refuses one that meets the kernel", () => {
  const ram = memory();
  const kernel = { entry: "64-bit", entryAddr: MIB, endAddr: 2 * MIB } as const;
  const initrd = withFile(new Uint8Array(5000).fill(3), (path) => loadInitrd(path, ram, kernel));
  equal(initrd.guestAddr, 4 * MIB - 8192);
  equal(ram.readU8(initrd.guestAddr + 4999), 3);
  withFile(new Uint8Array(2 * MIB + 1), (path) => throws(() => loadInitrd(path, ram, kernel), ConfigError));
});

Deno.test("loadKernel() answers random headers with an error or a kernel inside RAM", () => {
  const random = new Random(0xe1f);
  const samples = [elfOf(new Uint8Array(200)), bzImageOf(new Uint8Array(2000))];
  for (let round = 0; round < 400; round++) {
    const file = (samples[round % 2] ?? new Uint8Array(0)).slice();
    for (let change = 0; change < 6; change++) {
      file[random.below(Math.min(file.length, 0x280))] = random.below(256);
    }
    withFile(file, (path) => {
      const ram = memory();
      try {
        const { entryAddr } = loadKernel(path, ram);
        ok(ram.contains(entryAddr, 1), `seed 0xe1f round ${round}`);
      } catch (error) {
        ok(error instanceof ConfigError, `seed 0xe1f round ${round}: ${error}`);
      }
    });
  }
});

Deno.test("loadKernel() refuses an ELF segment whose place in the file is beyond every file", () => {
  for (const offset of [2n ** 63n, 2n ** 64n - 1n, 2n ** 40n]) {
    const file = elfOf(Uint8Array.of(0xf4));
    // p_offset of the first program header
    new DataView(file.buffer).setBigUint64(64 + 8, offset, true);
    throws(() => withFile(file, (path) => loadKernel(path, memory())), ConfigError);
  }
});
