import { deepEqual, equal } from "node:assert/strict";
import { Bus } from "../../src/bus/bus.ts";
import { ExitCounts } from "../../src/machine/vcpu_loop.ts";

Deno.test("ExitCounts counts by cause and by port", () => {
  const counts = new ExitCounts();
  counts.add("mmio");
  counts.addPort(0x3f8);
  counts.addPort(0x3f8);
  deepEqual(counts.toRecord(), { "mmio": 1, "port 0x3f8": 2 });
});

Deno.test("ExitCounts stays small for a guest that touches every port", () => {
  const counts = new ExitCounts();
  for (let port = 0; port < 65_536; port++) counts.addPort(port);
  const record = counts.toRecord();
  equal(Object.keys(record).length, 65);
  equal(record["other ports"], 65_536 - 64);
});

Deno.test("Bus finds the device of each access, also right after another's", () => {
  const bus = new Bus();
  const seen: string[] = [];
  const device = (name: string): { read(offset: number): number; write(offset: number): void } => ({
    read: (offset) => seen.push(`${name}${offset}`),
    write: (offset) => void seen.push(`${name}${offset}`),
  });
  bus.add(16, 8, device("a"));
  bus.add(24, 8, device("b"));
  for (const addr of [16, 23, 24, 17, 31, 24]) bus.write(addr, 1, 0);
  equal(bus.write(32, 1, 0), false);
  equal(bus.write(23, 2, 0), false);
  deepEqual(seen, ["a0", "a7", "b0", "a1", "b7", "b0"]);
});
