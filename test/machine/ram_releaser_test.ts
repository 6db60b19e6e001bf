import { deepEqual, equal } from "node:assert/strict";
import { Mapping } from "../../src/ffi/mapping.ts";
import { RamReleaser } from "../../src/machine/ram_releaser.ts";
import { GuestMemory } from "../../src/memory/guest_memory.ts";

const PAGE = 4096;

/** Bytes of guest RAM that the host keeps, of all mappings of this process that have this size. */
function residentKib(sizeBytes: number): number {
  const maps = new TextDecoder().decode(
    new Deno.Command("cat", { args: [`/proc/${Deno.pid}/smaps`] }).outputSync().stdout,
  );
  let total = 0;
  let inside = false;
  for (const line of maps.split("\n")) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (range !== null) {
      inside = Number.parseInt(range[2] ?? "", 16) - Number.parseInt(range[1] ?? "", 16) === sizeBytes;
    }
    if (inside) total += Number(/^Rss: +(\d+) kB/.exec(line)?.[1] ?? 0);
  }
  return total;
}

for (const shared of [true, false]) {
  Deno.test(`RamReleaser gives pages back, and the guest reads zeros there (${shared ? "memfd" : "private"})`, () => {
    // A size that no other mapping is likely to have
    const sizeBytes = 777 * PAGE;
    using ram = shared ? Mapping.anonymous("test", sizeBytes) : Mapping.hugePages(sizeBytes);
    const memory = new GuestMemory(ram.buffer);
    memory.fill(0, sizeBytes, 7);
    const before = residentKib(sizeBytes);
    const releaser = new RamReleaser(memory, { hostAddr: ram.hostAddr, shared });
    releaser.releaseRange(100 * PAGE, 600 * PAGE);
    equal(before - residentKib(sizeBytes), 600 * 4);
    deepEqual([99, 100, 699, 700].map((page) => memory.readU8(page * PAGE)), [7, 0, 0, 7]);
  });
}

Deno.test("RamReleaser gives back whole pages only, and nothing that is not RAM", () => {
  using ram = Mapping.anonymous("test", 8 * PAGE);
  const memory = new GuestMemory(ram.buffer);
  memory.fill(0, 8 * PAGE, 7);
  const releaser = new RamReleaser(memory, { hostAddr: ram.hostAddr, shared: true });
  releaser.releaseRange(PAGE + 1, 2 * PAGE);
  releaser.releaseRange(7 * PAGE, 2 * PAGE);
  releaser.releaseRange(-PAGE, PAGE);
  releaser.releaseRange(2 ** 53, PAGE);
  releaser.releaseView(memory.slice(5, 10));
  const values = Array.from({ length: 8 }, (_, page) => memory.readU8(page * PAGE));
  deepEqual(values, [7, 7, 0, 7, 7, 7, 7, 7]);
});
