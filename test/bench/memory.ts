/**
 * `bench memory`: what a monitor takes for itself, beyond its guest's RAM, with a guest that does nothing; alone and as
 * one of many, where what processes share costs each less.
 *
 * @module
 */

import { asm, elfOf } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";
import { hasTool } from "../support/command.ts";
import { ConsoleProcess, pvhElfOf, qemuArguments } from "./qemu_microvm.ts";
import { OURS, type Report, type Row } from "./report.ts";
import { type Series, summarise } from "./series.ts";

const KIB_PER_MIB = 1024;
const MANY_VMS = 20;
const MANY_CPUS = 5;
/** A monitor has settled by then, in `ms`. */
const SETTLE_MS = 500;
/** Limits of the project for the monitor's own anonymous memory in `MiB`. */
const ONE_CPU_LIMIT_MIB = 24;
const NEXT_CPU_LIMIT_MIB = 6;

/** Says on the serial port that it runs, then does nothing. */
const GUEST = Uint8Array.from([...asm.outByte(0x3f8, 0x21), ...asm.hlt, ...asm.spin]);

interface Monitor extends AsyncDisposable {
  readonly pid: number;
}

/** Memory that only this process has, without guest RAM (which both monitors keep in a memfd). */
interface OwnMemory {
  readonly privateMib: number;
  readonly anonymousMib: number;
}

/** Runs the benchmark. */
export async function benchMemory(rounds: number): Promise<Report> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-bench-" });
  try {
    const kernels = { ours: `${folder}/guest.elf`, qemu: `${folder}/pvh.elf` };
    await Deno.writeFile(kernels.ours, elfOf(GUEST));
    await Deno.writeFile(kernels.qemu, pvhElfOf(GUEST));
    const ours = (cpus: number) => (): Promise<Monitor> => startOurs(kernels.ours, cpus);
    const peers = hasTool("qemu-system-x86_64") ? { "qemu": () => startQemu(kernels.qemu) } : {};
    const one = await measureEach({ [OURS]: ours(1), ...peers }, 1, rounds);
    const many = await measureEach({ [OURS]: ours(1), ...peers }, MANY_VMS, 1);
    const smp = await measureEach({ [OURS]: ours(MANY_CPUS) }, 1, rounds);
    return { name: "memory", rows: rowsOf(one, many, smp) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

type Measured = Readonly<Record<string, readonly OwnMemory[]>>;

function rowsOf(one: Measured, many: Measured, smp: Measured): Row[] {
  const oneCpu = column(one, ({ anonymousMib }) => anonymousMib);
  const base = oneCpu[OURS]?.median ?? 0;
  const nextCpu = column(smp, ({ anonymousMib }) => (anonymousMib - base) / (MANY_CPUS - 1));
  const privateOf = ({ privateMib }: OwnMemory): number => privateMib;
  return [
    { what: "private memory of the monitor, 1 VM", unit: "MiB", contenders: column(one, privateOf) },
    {
      what: `private memory of each monitor of ${MANY_VMS} VMs`,
      unit: "MiB",
      contenders: column(many, privateOf),
    },
    {
      what: "anonymous memory of the monitor, 1 vCPU",
      unit: "MiB",
      contenders: oneCpu,
      goal: { atMost: ONE_CPU_LIMIT_MIB },
    },
    {
      what: "anonymous memory for each further vCPU",
      unit: "MiB",
      contenders: nextCpu,
      goal: { atMost: NEXT_CPU_LIMIT_MIB },
    },
  ];
}

function column(measured: Measured, value: (memory: OwnMemory) => number): Record<string, Series> {
  return Object.fromEntries(Object.entries(measured).map(([name, all]) => [name, summarise(all.map(value))]));
}

/** Starts `count` monitors at a time of each kind in turn, and looks at all of them. */
async function measureEach(
  kinds: Readonly<Record<string, () => Promise<Monitor>>>,
  count: number,
  rounds: number,
): Promise<Measured> {
  const measured: Record<string, OwnMemory[]> = Object.fromEntries(
    Object.keys(kinds).map((name) => [name, []]),
  );
  for (let round = 0; round < rounds; round++) {
    for (const [name, start] of Object.entries(kinds)) {
      await using running = new AsyncDisposableStack();
      const monitors: Monitor[] = [];
      for (let index = 0; index < count; index++) monitors.push(running.use(await start()));
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
      measured[name]?.push(...monitors.map(({ pid }) => ownMemory(pid)));
    }
  }
  return measured;
}

async function startOurs(kernelPath: string, cpus: number): Promise<Monitor> {
  const vmm = new TestVmm();
  await vmm.start({ kernelPath, cpus });
  await vmm.untilConsole("!");
  return vmm;
}

async function startQemu(kernelPath: string): Promise<Monitor> {
  const qemu = new ConsoleProcess(["qemu-system-x86_64", ...qemuArguments({ kernelPath, memoryMib: 16 })]);
  await qemu.untilConsole("!");
  return qemu;
}

/** Adds up /proc/PID/smaps. */
function ownMemory(pid: number): OwnMemory {
  const sums = { Private_Clean: 0, Private_Dirty: 0, Anonymous: 0 };
  let isGuestRam = false;
  for (const line of Deno.readTextFileSync(`/proc/${pid}/smaps`).split("\n")) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) isGuestRam = line.includes("memfd:");
    const [, field, kib] = /^(Private_Clean|Private_Dirty|Anonymous):\s+(\d+) kB/.exec(line) ?? [];
    if (!isGuestRam && field !== undefined) sums[field as keyof typeof sums] += Number(kib) / KIB_PER_MIB;
  }
  return { privateMib: sums.Private_Clean + sums.Private_Dirty, anonymousMib: sums.Anonymous };
}
