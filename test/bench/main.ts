/**
 * Benchmarks, each against a peer in the same run: the two alternate, and what counts is the ratio.
 *
 *     deno task bench NAME [--rounds N] [--json] [--output FILE]      NAME: exits, memory, boot
 *
 * `bench boot` boots a guest of a few instructions, and with `--kernel FILE [--initrd FILE] [--cmdline TEXT]` a Linux
 * too, until it prints `--ready TEXT`. `--peer "CMD {kernel} {initrd} {cmdline}"` adds a monitor, once for each.
 *
 * @module
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { benchBoot } from "./boot.ts";
import { benchExits } from "./exits.ts";
import { benchMemory } from "./memory.ts";
import { publish, type Report } from "./report.ts";

const BENCHES: Readonly<Record<string, (rounds: number) => Promise<Report>>> = {
  exits: benchExits,
  memory: benchMemory,
  boot: (rounds) => {
    const { kernel, initrd, cmdline, ready: readyText, peer: peers = [] } = values;
    return benchBoot({ rounds, kernel, initrd, cmdline, readyText, peers });
  },
};

const OPTIONS = {
  rounds: { type: "string", default: "7" },
  json: { type: "boolean", default: false },
  output: { type: "string" },
  kernel: { type: "string" },
  initrd: { type: "string" },
  cmdline: { type: "string" },
  ready: { type: "string" },
  peer: { type: "string", multiple: true },
} as const;

const RESULTS = fileURLToPath(new URL("../../result/bench", import.meta.url));

function fail(message: string): never {
  console.error(`bench: ${message}`);
  Deno.exit(2);
}

const { values, positionals } = parseArgs({ args: Deno.args, options: OPTIONS, allowPositionals: true });
const [name = ""] = positionals;
const bench = BENCHES[name];
const rounds = Number(values.rounds);
if (bench === undefined || positionals.length > 1) {
  fail(`Cannot run "${name}": there are ${Object.keys(BENCHES).join(", ")}`);
}
if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
  fail(`Cannot do ${values.rounds} rounds: it is 1 to 1000`);
}
await publish(await bench(rounds), {
  json: values.json,
  path: values.output ?? join(RESULTS, `${name}.json`),
});
