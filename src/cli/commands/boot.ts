/**
 * `sandbox boot -k KERNEL`: boots a kernel with its serial console on this terminal.
 *
 * @module
 */

import { parseArgs } from "node:util";
import {
  describeTimings,
  rawBoot,
  rawBootComplaint,
  rawBootExitCode,
  type RawBootOptions,
} from "../../local/raw_boot.ts";
import { untilInterrupted } from "../interrupt.ts";
import { progressOnStderr } from "../progress_display.ts";
import { parseByteRate, parseCount, parseDurationMs, parseSizeMib } from "../quantities.ts";
import { watchWindow } from "../terminal.ts";
import { UsageError } from "../usage_error.ts";

const DEFAULT_MEMORY_MIB = 512;
const DEFAULT_GRACE_MS = 10_000;
const DEFAULT_CMDLINE = "reboot=t panic=-1 i8042.nokbd i8042.noaux";
/** The last console that the command line names is the one that programs get. */
const CONSOLE_WORDS = { serial: "console=ttyS0", virtio: "console=ttyS0 console=hvc0" } as const;

const OPTIONS = {
  kernel: { type: "string", short: "k" },
  initrd: { type: "string", short: "i" },
  disk: { type: "string", short: "d", multiple: true },
  tap: { type: "string", short: "t" },
  memory: { type: "string", short: "m" },
  append: { type: "string", short: "a" },
  cpus: { type: "string" },
  "disk-rate": { type: "string" },
  "disk-iops": { type: "string" },
  "net-rate": { type: "string" },
  "net-pps": { type: "string" },
  "on-reboot": { type: "string" },
  grace: { type: "string" },
  console: { type: "string" },
  timings: { type: "boolean" },
} as const;

/** What the command line asks for. */
export type BootArguments = Pick<
  RawBootOptions,
  | "kernel"
  | "initrd"
  | "disks"
  | "diskRateLimit"
  | "tap"
  | "netRateLimit"
  | "memoryMib"
  | "cpus"
  | "cmdline"
  | "console"
  | "onReboot"
  | "graceMs"
>;

/** Whether to print the boot's phases at the end. */
function wantsTimings(args: readonly string[]): boolean {
  return parseArgs({ args: [...args], options: OPTIONS }).values.timings ?? false;
}

/** Reads the command line. */
export function parseBootArguments(args: readonly string[]): BootArguments {
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  const { kernel, initrd, disk: disks = [], tap, memory, cpus, append } = values;
  if (kernel === undefined) throw new UsageError("A kernel is needed: sandbox boot -k KERNEL");
  const memoryMib = memory === undefined ? DEFAULT_MEMORY_MIB : parseSizeMib("-m", memory);
  const terminal = parseConsole(values.console ?? "serial");
  const root = disks.length === 0 ? "" : " root=/dev/vda rw";
  return {
    kernel,
    initrd,
    disks,
    diskRateLimit: parseRateLimit(values, "disk-rate", "disk-iops", {
      flag: "-d",
      isThere: disks.length > 0,
    }),
    tap,
    netRateLimit: parseRateLimit(values, "net-rate", "net-pps", { flag: "-t", isThere: tap !== undefined }),
    memoryMib,
    cpus: cpus === undefined ? 1 : parseCount("--cpus", cpus),
    cmdline: append ?? `${CONSOLE_WORDS[terminal]} ${DEFAULT_CMDLINE}${root}`,
    console: terminal,
    onReboot: parseOnReboot(values["on-reboot"] ?? "exit"),
    graceMs: values.grace === undefined ? DEFAULT_GRACE_MS : parseDurationMs("--grace", values.grace),
  };
}

/** What a device is held to; `undefined` if to nothing. */
function parseRateLimit(
  values: Readonly<Record<string, unknown>>,
  bytes: "disk-rate" | "net-rate",
  operations: "disk-iops" | "net-pps",
  device: { readonly flag: string; readonly isThere: boolean },
): RawBootOptions["diskRateLimit"] {
  const { [bytes]: byteRate, [operations]: rate } = values;
  const named = [bytes, operations].find((name) => values[name] !== undefined);
  if (named === undefined) return undefined;
  if (!device.isThere) {
    throw new UsageError(`--${named} needs ${device.flag}: there is nothing to hold to a rate`);
  }
  return {
    ...(typeof byteRate === "string" && { bytesPerSecond: parseByteRate(`--${bytes}`, byteRate) }),
    ...(typeof rate === "string" && { operationsPerSecond: parseCount(`--${operations}`, rate) }),
  };
}

function parseConsole(text: string): "serial" | "virtio" {
  if (text === "serial" || text === "virtio") return text;
  throw new UsageError(`--console must be serial or virtio: received "${text}"`);
}

function parseOnReboot(text: string): "restart" | "exit" {
  if (text === "restart" || text === "exit") return text;
  throw new UsageError(`--on-reboot must be restart or exit: received "${text}"`);
}

/** Runs the command and gives its exit code. */
export async function boot(args: readonly string[]): Promise<number> {
  const options = parseBootArguments(args);
  const encoder = new TextEncoder();
  const write = (text: string): void => void Deno.stderr.writeSync(encoder.encode(text));
  const progress = progressOnStderr();
  const isTerminal = Deno.stdin.isTerminal();
  let isRaw = false;
  using interrupt = untilInterrupted(() => {});
  try {
    const { end, timings } = await rawBoot({
      ...options,
      input: Deno.stdin.readable,
      onOutput: (bytes) => {
        for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
      },
      watchWindow: (onSize) => watchWindow(({ cols, rows }) => onSize(cols, rows)),
      onProgress: (event) => progress.show(event),
      onReady: () => {
        progress.clear();
        if (!isTerminal) return;
        write("Booting; Ctrl-A Ctrl-C quits\r\n");
        Deno.stdin.setRaw(true);
        isRaw = true;
      },
      signal: interrupt.signal,
    });
    if (isRaw) Deno.stdin.setRaw(false);
    isRaw = false;
    if (timings !== undefined && wantsTimings(args)) write(`${describeTimings(timings)}\n`);
    const complaint = rawBootComplaint(end);
    if (complaint !== undefined) write(`sandbox: ${complaint}\n`);
    return rawBootExitCode(end);
  } finally {
    if (isRaw) Deno.stdin.setRaw(false);
    progress.clear();
  }
}
