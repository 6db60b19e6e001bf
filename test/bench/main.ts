/**
 * Benchmarks, each against a peer in the same run: the two alternate, and what counts is the ratio.
 *
 *     deno task bench NAME [--rounds N] [--json] [--output FILE]    NAME: exits, memory, boot, block, net
 *     deno task bench table                                         puts the last results into README
 *
 * Linux guests run where the product would run them: on this machine's KVM if it is whole, else in the emulated host.
 * `bench boot` takes another Linux by `--kernel FILE [--initrd FILE] [--cmdline TEXT] --ready TEXT`; `--peer "CMD {kernel}
 * {initrd} {disk} {cmdline} {memory}"` adds a monitor, once for each.
 *
 * @module
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { stateDir } from "../../src/images/paths.ts";
import type { ProgressEvent } from "../../src/images/progress.ts";
import { chooseHost } from "../../src/local/host_choice.ts";
import { exists } from "../support/command.ts";
import { CMDLINE, prepareLoadGuest, READY } from "../support/load_guest/load_guest.ts";
import { benchBlock } from "./block.ts";
import { benchFirstInstruction, benchLinuxBoot, type LinuxGuest } from "./boot.ts";
import { runInEmulatedHost, shareFile } from "./emulated.ts";
import { benchExits } from "./exits.ts";
import { benchMemory } from "./memory.ts";
import { benchNet } from "./net.ts";
import { benchDiskQueue, benchNetQueue } from "./queues.ts";
import { writeTable } from "./readme_table.ts";
import { publish, type Report, type Row } from "./report.ts";
import { findTools, prepareTools } from "./tools.ts";

/** A benchmark in its parts. */
interface Bench {
  /** rounds unless told otherwise */
  readonly rounds: number;
  /** what any KVM can run */
  readonly anywhere?: (rounds: number) => Promise<Report>;
  /** what needs a KVM that is whole */
  readonly linux?: (rounds: number) => Promise<Report>;
}

const BENCHES: Readonly<Record<string, Bench>> = {
  exits: { rounds: 7, anywhere: benchExits },
  memory: { rounds: 7, anywhere: benchMemory },
  boot: {
    rounds: 5,
    anywhere: async (rounds) => ({
      name: "boot",
      rows: await benchFirstInstruction({ rounds, tools: findTools(), peers: values.peer ?? [], onStep }),
    }),
    linux: async (rounds) => {
      const options = { rounds, tools: findTools(), peers: values.peer ?? [], onStep };
      const { rows, exits } = await benchLinuxBoot(await linuxGuest(), options);
      return { name: "boot", rows, notes: { exits } };
    },
  },
  block: {
    rounds: 3,
    anywhere: async (rounds) => ({
      name: "block",
      rows: await benchDiskQueue({ rounds, tools: findTools(), onStep }),
    }),
    linux: async (rounds) =>
      await benchBlock({ rounds, guest: await prepareLoadGuest(), tools: findTools(), onStep }),
  },
  net: {
    rounds: 3,
    anywhere: async (rounds) => ({
      name: "net",
      rows: await benchNetQueue({ rounds, tools: findTools(), onStep }),
    }),
    linux: async (rounds) =>
      await benchNet({ rounds, guest: await prepareLoadGuest(), tools: findTools(), onStep }),
  },
};

const OPTIONS = {
  rounds: { type: "string" },
  json: { type: "boolean", default: false },
  output: { type: "string" },
  kernel: { type: "string" },
  initrd: { type: "string" },
  cmdline: { type: "string" },
  ready: { type: "string" },
  peer: { type: "string", multiple: true },
  // Only the Linux part, here, and its report on stdout: how this program runs itself in the emulated host
  inside: { type: "boolean", default: false },
} as const;

const RESULTS = fileURLToPath(new URL("../../result/bench", import.meta.url));

function fail(message: string): never {
  console.error(`bench: ${message}`);
  Deno.exit(2);
}

function onStep(text: string): void {
  console.error(`bench ${name}: ${text}`);
}

function onProgress(event: ProgressEvent): void {
  if (event.type === "step" || event.type === "notice") onStep(event.message);
}

async function linuxGuest(): Promise<LinuxGuest> {
  const { kernel, initrd, cmdline = CMDLINE, ready: readyText = READY } = values;
  if (kernel !== undefined) return { kernel, initrd, cmdline, readyText };
  const { kernelPath, diskPath } = await prepareLoadGuest();
  return { kernel: kernelPath, disk: diskPath, cmdline, readyText };
}

/** The arguments with which this program runs its Linux part in the emulated host. */
async function argumentsInside(rounds: number): Promise<string[]> {
  const { kernel, initrd, cmdline, ready, peer = [] } = values;
  return [
    ...[name, "--inside", "--rounds", `${rounds}`],
    ...(kernel === undefined ? [] : ["--kernel", await shareFile(kernel)]),
    ...(initrd === undefined ? [] : ["--initrd", await shareFile(initrd)]),
    ...(cmdline === undefined ? [] : ["--cmdline", cmdline]),
    ...(ready === undefined ? [] : ["--ready", ready]),
    ...peer.flatMap((template) => ["--peer", template]),
  ];
}

async function runAll({ anywhere, linux }: Bench, rounds: number): Promise<Report> {
  const reports: Report[] = [];
  if (linux !== undefined) {
    await prepareLoadGuest(onProgress);
    await prepareTools();
  }
  if (anywhere !== undefined && exists("/dev/kvm")) reports.push(await anywhere(rounds));
  if (linux !== undefined) {
    const { kind, reason } = await chooseHost(stateDir());
    onStep(`Linux guests run on the ${kind} KVM host: ${reason}`);
    reports.push(
      kind === "native"
        ? await linux(rounds)
        : await runInEmulatedHost(await argumentsInside(rounds), onProgress),
    );
  }
  const rows = reports.flatMap((report): readonly Row[] => report.rows);
  const notes = Object.assign({}, ...reports.map((report) => report.notes ?? {}));
  return { name, rows, notes };
}

const { values, positionals } = parseArgs({ args: Deno.args, options: OPTIONS, allowPositionals: true });
const [name = ""] = positionals;
if (name === "table") {
  await writeTable(RESULTS);
  Deno.exit();
}
const bench = BENCHES[name];
if (bench === undefined || positionals.length > 1) {
  fail(`Cannot run "${name}": there are ${Object.keys(BENCHES).join(", ")}`);
}
const rounds = Number(values.rounds ?? bench.rounds);
if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
  fail(`Cannot do ${values.rounds} rounds: it is 1 to 1000`);
}
if (values.inside) console.log(JSON.stringify(await bench.linux?.(rounds)));
else {
  await publish(await runAll(bench, rounds), {
    json: values.json,
    path: values.output ?? join(RESULTS, `${name}.json`),
  });
}
