/**
 * `bench boot`: from the start of a monitor's process to the guest's first instruction, and on to the init of a Linux
 * guest; each by the guest's own words on the serial console, as another process sees them.
 *
 * @module
 */

import { asm } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";
import { ConsoleProcess, pvhElfOf, qemuArguments, type QemuDisk } from "./qemu_microvm.ts";
import { OURS, type Row } from "./report.ts";
import { alternate, type Series, summarise } from "./series.ts";
import type { BenchTools } from "./tools.ts";

/** A Linux guest. */
export interface LinuxGuest {
  readonly kernel: string;
  readonly initrd?: string | undefined;
  /** root disk, read-only */
  readonly disk?: string | undefined;
  readonly cmdline: string;
  /** what it prints when its init is ready */
  readonly readyText: string;
}

/** How to measure. */
export interface BootBenchOptions {
  readonly rounds: number;
  readonly tools: BenchTools;
  /**
   * further monitors: a command with `{kernel}`, `{initrd}`, `{disk}`, `{cmdline}` and `{memory}` (in MiB) in it, console
   * on stdout
   */
  readonly peers: readonly string[];
  /** hears what is going on */
  readonly onStep: (text: string) => void;
}

const MARK = "!";
/** Says on the serial port that it runs, then halts. */
const TINY_GUEST = Uint8Array.from([...asm.outByte(0x3f8, MARK.charCodeAt(0)), ...asm.hlt, ...asm.spin]);
const LINUX_MEMORY_MIB = 512;
const TINY_MEMORY_MIB = 16;
/** Most exits to userspace that a boot may take. */
const MAX_EXITS = 150;

/** What a monitor is to boot, and the text that says it has. */
interface Guest {
  readonly kernel: string;
  readonly initrd?: string | undefined;
  readonly disk?: string | undefined;
  readonly cmdline: string;
  readonly memoryMib: number;
  readonly text: string;
  /** QEMU's machines that can boot it */
  readonly machines: readonly ("plain" | "lean")[];
}

/** Measures a guest of a few instructions. */
export async function benchFirstInstruction(options: BootBenchOptions): Promise<Row[]> {
  const what = "process start to the guest's first instruction";
  const contenders = await bootTiny(options);
  return [{ what, unit: "ms", contenders, goal: { ratio: { atMost: 1 } } }];
}

/** Measures a Linux guest, on a KVM that is whole. */
export async function benchLinuxBoot(linux: LinuxGuest, options: BootBenchOptions): Promise<{
  readonly rows: Row[];
  /** exits to userspace by cause */
  readonly exits: Readonly<Record<string, number>>;
}> {
  const { readyText: text, ...files } = linux;
  // The product's kernel cannot read the plain microvm's ACPI tables, and finds no devices there
  const guest: Guest = { ...files, text, memoryMib: LINUX_MEMORY_MIB, machines: ["lean"] };
  // The first instruction of a Linux guest says nothing: a tiny guest's stands for it, on the same monitor.
  const first = await bootTiny(options);
  const ready = await bootInTurn(guest, "Linux", options);
  options.onStep("counting exits");
  const exits = await exitsOf(guest);
  return { rows: linuxRows(first, ready, exits), exits };
}

function linuxRows(
  first: Readonly<Record<string, Series>>,
  ready: Readonly<Record<string, Series>>,
  exits: Readonly<Record<string, number>>,
): Row[] {
  const inGuest = Object.fromEntries(
    Object.entries(ready).map(([name, { median, min, max, count }]) => {
      const start = first[name]?.median ?? 0;
      return [name, { median: median - start, min: min - start, max: max - start, count }];
    }),
  );
  const total = Object.values(exits).reduce((sum, count) => sum + count, 0);
  return [
    { what: "process start to Linux's init", unit: "ms", contenders: ready },
    {
      what: "first instruction to Linux's init",
      unit: "ms",
      contenders: inGuest,
      goal: { ratio: { atMost: 1 } },
    },
    {
      what: "exits to userspace until Linux's init",
      unit: "exits",
      contenders: { [OURS]: summarise([total]) },
      goal: { atMost: MAX_EXITS },
    },
  ];
}

async function bootTiny(options: BootBenchOptions): Promise<Record<string, Series>> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-bench-" });
  try {
    const kernel = `${folder}/guest.elf`;
    await Deno.writeFile(kernel, pvhElfOf(TINY_GUEST));
    const machines = ["plain", "lean"] as const;
    const guest = { kernel, cmdline: "", memoryMib: TINY_MEMORY_MIB, text: MARK, machines };
    return await bootInTurn(guest, "a few instructions", options);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Times from process start to `guest.text` on the console, in `ms`. */
async function bootInTurn(
  guest: Guest,
  name: string,
  { rounds, tools: { qemu }, peers, onStep }: BootBenchOptions,
): Promise<Record<string, Series>> {
  const contenders: Record<string, () => Promise<number>> = { [OURS]: () => bootOurs(guest) };
  if (qemu !== undefined) {
    const { kernel: kernelPath, initrd: initrdPath, cmdline, memoryMib } = guest;
    for (const machine of guest.machines) {
      const options = { kernelPath, initrdPath, cmdline, memoryMib, machine, disks: disksOf(guest) };
      const argv = [...qemu, ...qemuArguments(options)];
      contenders[machine === "plain" ? "qemu" : "qemu, lean"] = () => bootPeer(argv, guest.text);
    }
  }
  for (const [index, template] of peers.entries()) {
    contenders[`peer ${index + 1}`] = () => bootPeer(fillTemplate(template, guest), guest.text);
  }
  const values = await alternate(contenders, rounds, (step) => onStep(`${name}, ${step}`));
  return Object.fromEntries(Object.entries(values).map(([name, measured]) => [name, summarise(measured)]));
}

function disksOf({ disk }: Guest): QemuDisk[] {
  return disk === undefined ? [] : [{ path: disk, format: "raw", readOnly: true }];
}

/** The words of a peer's command, with the guest's files in their places; an empty one for what the guest has not. */
export function fillTemplate(template: string, guest: Omit<Guest, "text" | "machines">): string[] {
  const files: Readonly<Record<string, string>> = {
    "{kernel}": guest.kernel,
    "{initrd}": guest.initrd ?? "/dev/null",
    "{disk}": guest.disk ?? "/dev/null",
    "{cmdline}": guest.cmdline,
    "{memory}": `${guest.memoryMib}`,
  };
  return template.trim().split(/\s+/).map((word) =>
    word.replace(/\{[a-z]+\}/g, (name) => files[name] ?? name)
  );
}

async function bootPeer(argv: readonly string[], text: string): Promise<number> {
  const startMs = performance.now();
  await using peer = new ConsoleProcess(argv);
  await peer.untilConsole(text);
  return performance.now() - startMs;
}

async function startOurs(vmm: TestVmm, guest: Guest): Promise<void> {
  const { kernel, initrd, cmdline, memoryMib } = guest;
  const initrdPath = initrd === undefined ? {} : { initrdPath: initrd };
  await vmm.start({ kernelPath: kernel, ...initrdPath, cmdline, memoryMib, disks: disksOf(guest) });
}

async function bootOurs(guest: Guest): Promise<number> {
  const startMs = performance.now();
  await using vmm = new TestVmm();
  await startOurs(vmm, guest);
  await vmm.untilConsole(guest.text);
  return performance.now() - startMs;
}

/** Exits to userspace by cause, up to the ready text and a little further: until the guest is stopped. */
async function exitsOf(guest: Guest): Promise<Readonly<Record<string, number>>> {
  await using vmm = new TestVmm();
  await startOurs(vmm, guest);
  await vmm.untilConsole(guest.text);
  await vmm.send({ type: "stop", graceMs: 0 });
  return (await vmm.until("stopped")).exits;
}
