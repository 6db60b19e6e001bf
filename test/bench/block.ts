/**
 * `bench block`: fio in the guest, on a raw and on a qcow2 disk, beside QEMU's microvm with copies of the same files.
 * The host has them in its page cache, for both monitors: what is measured is the monitors, not a disk.
 *
 * @module
 */

import { join } from "node:path";
import { run } from "../support/command.ts";
import type { LoadGuest } from "../support/load_guest/load_guest.ts";
import type { LoadVm } from "./load_vm.ts";
import { startOurs, startQemu } from "./load_vm.ts";
import type { QemuDisk } from "./qemu_microvm.ts";
import { OURS, type Report, type Row } from "./report.ts";
import { summarise } from "./series.ts";
import type { BenchTools } from "./tools.ts";

/** What to run. */
export interface BlockBenchOptions {
  readonly rounds: number;
  readonly guest: LoadGuest;
  readonly tools: BenchTools;
  /** hears what is going on */
  readonly onStep: (text: string) => void;
}

const MIB = 1024 * 1024;
/** What the jobs go over, and what each round has for writes to clusters that do not exist yet, in `MiB`. */
const AREA_MIB = 256;
const FRESH_MIB = 32;
const JOB_SECONDS = 2;

interface Job {
  readonly name: string;
  readonly what: string;
  readonly unit: "IOPS" | "MiB/s";
  readonly words: string;
}

const SMALL = "--bs=4k --unit_base=8";
const JOBS: readonly Job[] = [
  {
    name: "rr1",
    what: "4 KiB random reads, 1 at a time",
    unit: "IOPS",
    words: `--rw=randread ${SMALL} --iodepth=1`,
  },
  {
    name: "rw1",
    what: "4 KiB random writes, 1 at a time",
    unit: "IOPS",
    words: `--rw=randwrite ${SMALL} --iodepth=1`,
  },
  {
    name: "rr32",
    what: "4 KiB random reads, 32 at a time",
    unit: "IOPS",
    words: `--rw=randread ${SMALL} --iodepth=32`,
  },
  {
    name: "rw32",
    what: "4 KiB random writes, 32 at a time",
    unit: "IOPS",
    words: `--rw=randwrite ${SMALL} --iodepth=32`,
  },
  {
    name: "sr",
    what: "1 MiB sequential reads, 4 at a time",
    unit: "MiB/s",
    words: "--rw=read --bs=1M --iodepth=4",
  },
  {
    name: "sw",
    what: "1 MiB sequential writes, 4 at a time",
    unit: "MiB/s",
    words: "--rw=write --bs=1M --iodepth=4",
  },
];
/** Only on qcow2: each write needs a cluster of its own. */
const FRESH: Job = {
  name: "new",
  what: "4 KiB writes to new clusters, 32 at a time",
  unit: "IOPS",
  words: "--rw=write:60k --bs=4k --iodepth=32",
};

/** Runs the benchmark. */
export async function benchBlock(options: BlockBenchOptions): Promise<Report> {
  const rows: Row[] = [];
  for (const format of ["raw", "qcow2"] as const) {
    // Not /tmp: it may be in memory, where io_uring works otherwise than on a disk's file system
    const folder = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "paddock-bench-" });
    try {
      rows.push(...await measureFormat(format, folder, options));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }
  return { name: "block", rows };
}

async function measureFormat(
  format: "raw" | "qcow2",
  folder: string,
  options: BlockBenchOptions,
): Promise<Row[]> {
  const { rounds, guest, tools: { qemu }, onStep } = options;
  const starts: Record<string, (disk: QemuDisk) => Promise<LoadVm>> = {
    [OURS]: (disk) => startOurs({ guest, disks: [disk] }),
    ...(qemu && { qemu: (disk: QemuDisk) => startQemu(qemu, { guest, disks: [disk] }) }),
  };
  await using running = new AsyncDisposableStack();
  const vms: Record<string, LoadVm> = {};
  for (const [name, start] of Object.entries(starts)) {
    onStep(`${format}: booting the guest in ${name}`);
    vms[name] = running.use(await start(await makeDisk(format, join(folder, name), rounds)));
  }
  run("sync", []);
  const jobs = format === "qcow2" ? [FRESH, ...JOBS] : JOBS;
  const values: Record<string, Record<string, number[]>> = {};
  for (let round = 0; round <= rounds; round++) {
    for (const [name, { shell }] of Object.entries(vms)) {
      onStep(`${format}: round ${round} of ${rounds}, ${name}`);
      const output = await shell.run(fioCommand(jobs, round));
      // The first round fills the caches.
      if (round > 0) collect(jobs, name, output, values);
    }
  }
  return jobs.map((job) => ({
    what: `${format}: ${job.what}`,
    unit: job.unit,
    contenders: Object.fromEntries(
      Object.entries(values[job.name] ?? {}).map(([name, measured]) => [name, summarise(measured)]),
    ),
    goal: { ratio: { atLeast: 1 } },
  }));
}

/** A disk with data everywhere; as qcow2, the jobs' area has its clusters and the rest is the base's. */
async function makeDisk(format: "raw" | "qcow2", stem: string, rounds: number): Promise<QemuDisk> {
  const raw = `${stem}.raw`;
  const pattern = crypto.getRandomValues(new Uint8Array(65_536));
  const block = new Uint8Array(MIB);
  for (let at = 0; at < MIB; at += pattern.byteLength) block.set(pattern, at);
  {
    using file = await Deno.open(raw, { createNew: true, write: true });
    for (let mib = 0; mib < AREA_MIB + (rounds + 1) * FRESH_MIB; mib++) file.writeSync(block);
  }
  if (format === "raw") return { path: raw, format };
  const path = `${stem}.qcow2`;
  run("qemu-img", ["create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", path]);
  run("qemu-io", ["-f", "qcow2", "-c", `write -P 7 0 ${AREA_MIB}M`, path]);
  return { path, format };
}

/** One fio for all jobs, one after the other. */
function fioCommand(jobs: readonly Job[], round: number): string {
  const global = "fio --minimal --filename=/dev/vdb --direct=1 --ioengine=libaio --randrepeat=1";
  const words = jobs.map((job) => {
    const where = job === FRESH
      ? `--offset=${AREA_MIB + round * FRESH_MIB}M --size=${FRESH_MIB}M`
      : `--size=${AREA_MIB}M --time_based --runtime=${JOB_SECONDS}`;
    return `--name=${job.name} --stonewall ${where} ${job.words}`;
  });
  // fio's terse format 3: name, error, read's bandwidth (KiB/s) and IOPS, write's. A serial port is slow.
  return `${global} ${words.join(" ")} | cut -d';' -f3,5,7,8,48,49`;
}

function collect(
  jobs: readonly Job[],
  contender: string,
  output: string,
  values: Record<string, Record<string, number[]>>,
): void {
  for (const { name, unit } of jobs) {
    const line = output.split("\n").find((text) => text.startsWith(`${name};0;`));
    if (line === undefined) throw new FioError(`No result of ${name} from ${contender}: ${output}`);
    const [readKib = 0, readIops = 0, writeKib = 0, writeIops = 0] = line.split(";").slice(2).map(Number);
    const value = unit === "IOPS" ? readIops + writeIops : (readKib + writeKib) / 1024;
    ((values[name] ??= {})[contender] ??= []).push(value);
  }
}

/** fio did not say what a job came to. */
export class FioError extends Error {
  override readonly name = "FioError";
}
