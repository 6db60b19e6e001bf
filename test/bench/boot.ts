/**
 * `bench boot`: from the start of a monitor's process to the guest's first instruction, and on to the init of a Linux
 * guest; each by the guest's own words on the serial console, as another process sees them.
 *
 * @module
 */

import { TestVmm } from "../support/vmm.ts";
import { hasTool } from "../support/command.ts";
import { asm } from "../support/tiny_guest.ts";
import { ConsoleProcess, pvhElfOf, qemuArguments } from "./qemu_microvm.ts";
import { OURS, type Report, type Row } from "./report.ts";
import { alternate, type Series, summarise } from "./series.ts";

/** What to boot beside the guest of a few instructions. */
export interface BootBenchOptions {
  readonly rounds: number;
  /** a Linux kernel (default: only the tiny guest is booted) */
  readonly kernel?: string | undefined;
  readonly initrd?: string | undefined;
  readonly cmdline?: string | undefined;
  /** what the Linux guest prints when its init is ready */
  readonly readyText?: string | undefined;
  /** further monitors: a command with `{kernel}`, `{initrd}` and `{cmdline}` in it, console on stdout */
  readonly peers: readonly string[];
}

const MARK = "!";
/** Says on the serial port that it runs, then halts. */
const TINY_GUEST = Uint8Array.from([...asm.outByte(0x3f8, MARK.charCodeAt(0)), ...asm.hlt, ...asm.spin]);
const LINUX_MEMORY_MIB = 512;
const TINY_MEMORY_MIB = 16;
const DEFAULT_CMDLINE = "console=ttyS0 quiet reboot=t panic=-1 i8042.nokbd i8042.noaux";
const DEFAULT_READY = "bench-ready";
/** Most exits to userspace that a boot may take. */
const MAX_EXITS = 150;

interface Guest {
  readonly kernel: string;
  readonly initrd?: string | undefined;
  readonly cmdline: string;
  readonly memoryMib: number;
  readonly text: string;
}

/** Runs the benchmark. */
export async function benchBoot(options: BootBenchOptions): Promise<Report> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-bench-" });
  try {
    const kernel = `${folder}/guest.elf`;
    await Deno.writeFile(kernel, pvhElfOf(TINY_GUEST));
    const tiny = { kernel, cmdline: "", memoryMib: TINY_MEMORY_MIB, text: MARK };
    const first = await bootInTurn(tiny, options);
    const what = "process start to the guest's first instruction";
    const rows: Row[] = [{ what, unit: "ms", contenders: first, goal: { ratio: { atMost: 1 } } }];
    if (options.kernel === undefined) return { name: "boot", rows };
    const { initrd, cmdline = DEFAULT_CMDLINE, readyText: text = DEFAULT_READY } = options;
    const linux = { kernel: options.kernel, initrd, cmdline, memoryMib: LINUX_MEMORY_MIB, text };
    const ready = await bootInTurn(linux, options);
    const exits = await exitsOf(linux);
    return { name: "boot", rows: [...rows, ...linuxRows(first, ready, exits)], notes: { exits } };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function linuxRows(
  first: Readonly<Record<string, Series>>,
  ready: Readonly<Record<string, Series>>,
  exits: Readonly<Record<string, number>>,
): Row[] {
  // The first instruction of a Linux guest says nothing: a tiny guest's stands for it, on the same monitor.
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
      what: "exits to userspace until then",
      unit: "exits",
      contenders: { [OURS]: summarise([total]) },
      goal: { atMost: MAX_EXITS },
    },
  ];
}

/** Times from process start to `guest.text` on the console, in `ms`. */
async function bootInTurn(guest: Guest, options: BootBenchOptions): Promise<Record<string, Series>> {
  const contenders: Record<string, () => Promise<number>> = { [OURS]: () => bootOurs(guest) };
  if (hasTool("qemu-system-x86_64")) {
    const { kernel: kernelPath, initrd, cmdline, memoryMib } = guest;
    const initrdPath = initrd === undefined ? {} : { initrdPath: initrd };
    const argv = ["qemu-system-x86_64", ...qemuArguments({ kernelPath, ...initrdPath, cmdline, memoryMib })];
    contenders.qemu = () => bootPeer(argv, guest.text);
  }
  for (const [index, template] of options.peers.entries()) {
    contenders[`peer ${index + 1}`] = () => bootPeer(fillTemplate(template, guest), guest.text);
  }
  const values = await alternate(contenders, options.rounds);
  return Object.fromEntries(Object.entries(values).map(([name, measured]) => [name, summarise(measured)]));
}

/** The words of a peer's command, with the guest's files in their places. */
export function fillTemplate(
  template: string,
  guest: { readonly kernel: string; readonly initrd?: string | undefined; readonly cmdline: string },
): string[] {
  const files: Readonly<Record<string, string>> = {
    "{kernel}": guest.kernel,
    "{initrd}": guest.initrd ?? "",
    "{cmdline}": guest.cmdline,
  };
  return template.trim().split(/\s+/).map((word) =>
    word.replace(/\{(kernel|initrd|cmdline)\}/g, (name) => files[name] ?? "")
  );
}

async function bootPeer(argv: readonly string[], text: string): Promise<number> {
  const startMs = performance.now();
  await using peer = new ConsoleProcess(argv);
  await peer.untilConsole(text);
  return performance.now() - startMs;
}

async function startOurs(vmm: TestVmm, { kernel, initrd, cmdline, memoryMib }: Guest): Promise<void> {
  const initrdPath = initrd === undefined ? {} : { initrdPath: initrd };
  await vmm.start({ kernelPath: kernel, ...initrdPath, cmdline, memoryMib });
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
