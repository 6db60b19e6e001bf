/**
 * `bench exits`: how many exits to userspace a second a tight port-I/O loop makes, in a whole VMM process and in the
 * least C program that can run the same guest.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { run } from "../support/command.ts";
import { asm, elfOf } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";
import { OURS, type Report } from "./report.ts";
import { alternate, summarise } from "./series.ts";

const SERIAL = 0x3f8;
const POWER = 0x300;
const EXITS = 150_000;

/** Marks its beginning and end on the serial port; in between it writes 0, which means nothing, to the power port. */
const GUEST = Uint8Array.from([
  ...asm.outByte(SERIAL, 0x28),
  ...[0xb9, ...new Uint8Array(Uint32Array.of(EXITS).buffer)], // mov ecx, EXITS
  ...[0xba, POWER & 0xff, POWER >> 8, 0, 0, 0xb0, 0], // mov edx, POWER; mov al, 0
  ...[0xee, 0xff, 0xc9, 0x75, 0xfb], // 1: out dx, al; dec ecx; jnz 1
  ...asm.outByte(SERIAL, 0x29),
  ...asm.outByte(POWER, 1),
]);

/** Runs the benchmark. */
export async function benchExits(rounds: number): Promise<Report> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-bench-" });
  try {
    await Deno.writeFile(`${folder}/guest.bin`, GUEST);
    await Deno.writeFile(`${folder}/guest.elf`, elfOf(GUEST));
    const source = fileURLToPath(new URL("exits_peer.c", import.meta.url));
    run("cc", ["-O2", "-Wall", "-o", `${folder}/peer`, source]);
    const values = await alternate({
      [OURS]: () => ours(`${folder}/guest.elf`),
      C: () => Promise.resolve(EXITS / Number(run(`${folder}/peer`, [`${folder}/guest.bin`]))),
    }, rounds);
    const contenders = Object.fromEntries(
      Object.entries(values).map(([name, measured]) => [name, summarise(measured)]),
    );
    const what = "exits to userspace of a port-I/O loop";
    return { name: "exits", rows: [{ what, unit: "1/s", contenders, goal: { ratio: { atLeast: 0.95 } } }] };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Exits a second, from the markers as they arrive here: a fraction of a millisecond late, both of them. */
async function ours(kernelPath: string): Promise<number> {
  await using vmm = new TestVmm();
  await vmm.start({ kernelPath });
  await vmm.untilConsole("(");
  const startMs = performance.now();
  await vmm.untilConsole(")");
  const endMs = performance.now();
  await vmm.until("stopped");
  return EXITS / (endMs - startMs) * 1000;
}
