/**
 * `sandbox boot`: one VM from given files, with its serial console on this terminal and nothing around it. It
 * runs on this machine's KVM, or in the emulated host, where the files go through the exchange folder.
 *
 * @module
 */

import { basename, join } from "node:path";
import { exchangeDir, execInEmulatedHost, startEmulatedHost } from "../emulated/host.ts";
import { MONITOR_SOURCE, prepareMonitor } from "../images/monitor_code.ts";
import { stateDir } from "../images/paths.ts";
import type { OnProgress } from "../images/progress.ts";
import { runHostCommand } from "../network/host_command.ts";
import { bootPhases, describeBootPhases } from "../session/boot_phases.ts";
import { isAlive, ownId, releaseOwn } from "../session/owner.ts";
import { describeVmEnd, type VmEnd, vmmCommand, vmmEnv } from "../session/vmm_process.ts";
import type { DiskConfig, RateLimitConfig, VmConfig, VmTimings } from "../vmm/protocol.ts";
import { VMM_EXIT } from "../vmm/protocol.ts";
import { type GuestConsoleOptions, runOnConsole, type VmmChild } from "./guest_console.ts";
import { chooseHost, type HostKind } from "./host_choice.ts";
import { LocalError } from "./local_error.ts";

/** Beginning of the names of folders with a boot's files; its owner's id follows. */
const SHARED_PREFIX = "boot-";
/** Folder that the emulated host sees the exchange folder at. */
const EXCHANGE_MOUNT = "/exchange";

/** What to boot. */
export interface RawBootOptions extends Omit<GuestConsoleOptions, "config" | "onTimings"> {
  readonly kernel: string;
  readonly initrd?: string | undefined;
  /** /dev/vda, /dev/vdb, … */
  readonly disks: readonly string[];
  /** what each disk is held to */
  readonly diskRateLimit?: RateLimitConfig | undefined;
  readonly tap?: string | undefined;
  /** what the network interface is held to */
  readonly netRateLimit?: RateLimitConfig | undefined;
  readonly memoryMib: number;
  readonly cpus: number;
  readonly cmdline: string;
  /** where typed bytes go: see `VmConfig` */
  readonly console: "serial" | "virtio";
  readonly onProgress: OnProgress;
  /** told right before the guest starts */
  readonly onReady: () => void;
}

/** How it ended. */
export interface RawBootResult {
  readonly end: VmEnd;
  readonly host: HostKind;
  /** when the boot was where: the last one, if the guest rebooted (undefined: it never began) */
  readonly timings: VmTimings | undefined;
}

async function checkFile(what: string, path: string | undefined): Promise<void> {
  if (path === undefined) return;
  try {
    if ((await Deno.stat(path)).isFile) return;
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) {
      throw new LocalError("usage", `Cannot open ${what} "${path}"`);
    }
  }
  throw new LocalError("usage", `There is no ${what} "${path}"`);
}

/** A disk whose first bytes say that it is qcow2, else raw. */
async function diskFormat(path: string): Promise<"raw" | "qcow2"> {
  using file = await Deno.open(path);
  const magic = new Uint8Array(4);
  await file.read(magic);
  return magic[0] === 0x51 && magic[1] === 0x46 && magic[2] === 0x49 && magic[3] === 0xfb ? "qcow2" : "raw";
}

async function toConfig(
  options: RawBootOptions,
  place: (path: string) => Promise<string>,
): Promise<VmConfig> {
  const { kernel, initrd, tap, diskRateLimit, netRateLimit } = options;
  const disks: DiskConfig[] = [];
  for (const path of options.disks) {
    const limit = diskRateLimit && { rateLimit: diskRateLimit };
    disks.push({ path: await place(path), format: await diskFormat(path), ...limit });
  }
  return {
    kernelPath: await place(kernel),
    ...(initrd === undefined ? {} : { initrdPath: await place(initrd) }),
    cmdline: options.cmdline,
    memoryMib: options.memoryMib,
    cpus: options.cpus,
    disks,
    ...(tap === undefined ? {} : { net: { tap, ...(netRateLimit && { rateLimit: netRateLimit }) } }),
    graceMs: options.graceMs,
    console: options.console,
  };
}

/** Makes a file visible in the emulated host: by a hard link, so that what the guest writes is written here. */
async function shareFile(path: string, folder: string): Promise<string> {
  const name = `${crypto.randomUUID().slice(0, 8)}-${basename(path)}`;
  const target = join(exchangeDir(), folder, name);
  try {
    await Deno.link(await Deno.realPath(path), target);
  } catch {
    // Another file system: the guest gets a copy, and writes to that.
    await runHostCommand(["cp", "--sparse=always", path, target]);
  }
  return join(EXCHANGE_MOUNT, folder, name);
}

function spawnNative(monitor: string): VmmChild {
  const [program = "", ...args] = vmmCommand([], monitor);
  const child = new Deno.Command(program, {
    args,
    clearEnv: true,
    env: vmmEnv(),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  return {
    stdin: child.stdin,
    stdout: child.stdout,
    stderr: child.stderr,
    status: child.status,
    kill: () => child.kill("SIGKILL"),
  };
}

/** Boots the VM and stays until it ends; with its reboots, if they are to be followed. */
export async function rawBoot(options: RawBootOptions): Promise<RawBootResult> {
  await checkFile("kernel", options.kernel);
  await checkFile("initrd", options.initrd);
  for (const disk of options.disks) await checkFile("disk", disk);
  const { kind } = await chooseHost(stateDir(), { needsRoot: false });
  let timings: VmTimings | undefined;
  const onTimings = (known: VmTimings): void => void (timings = known);
  if (kind === "native") {
    const config = await toConfig(options, (path) => Deno.realPath(path));
    options.onReady();
    const monitor = await prepareMonitor(options.signal);
    const spawn = (): VmmChild => spawnNative(monitor);
    return { end: await runOnConsole(spawn, { ...options, config, onTimings }), host: kind, timings };
  }
  if (options.tap !== undefined) {
    throw new LocalError(
      "usage",
      "Cannot use TAP device: this machine's KVM is not whole, and the emulated host has none",
    );
  }
  const host = await startEmulatedHost({ onProgress: options.onProgress, signal: options.signal });
  await sweepShared();
  const folder = SHARED_PREFIX + ownId(stateDir());
  await Deno.mkdir(join(exchangeDir(), folder), { recursive: true });
  try {
    const config = await toConfig(options, (path) => shareFile(path, folder));
    const spawn = (): VmmChild => execInEmulatedHost(host, { argv: vmmCommand([], MONITOR_SOURCE, "deno") });
    options.onReady();
    return { end: await runOnConsole(spawn, { ...options, config, onTimings }), host: kind, timings };
  } finally {
    await Deno.remove(join(exchangeDir(), folder), { recursive: true });
    releaseOwn(stateDir());
  }
}

/** Removes the folders of boots whose processes were killed. */
async function sweepShared(): Promise<void> {
  for (const { name } of await Array.fromAsync(Deno.readDir(exchangeDir()))) {
    if (!name.startsWith(SHARED_PREFIX) || isAlive(stateDir(), name.slice(SHARED_PREFIX.length))) continue;
    await Deno.remove(join(exchangeDir(), name), { recursive: true });
  }
}

/** Exit code of the command line for the way a VM ended. */
export function rawBootExitCode(end: VmEnd): number {
  if (end.type === "stopped") return end.reason === "internal_error" ? 3 : 0;
  if (end.type === "failed") return end.code === "config" || end.code === "kvm" ? VMM_EXIT.config : 3;
  return 3;
}

/** The sentence about the phases of a boot. */
export function describeTimings(timings: VmTimings): string {
  return describeBootPhases(bootPhases(timings));
}

/** The sentence about the end of a VM that was not orderly, or undefined. */
export function rawBootComplaint(end: VmEnd): string | undefined {
  return end.type === "stopped" && end.reason !== "internal_error" ? undefined : describeVmEnd(end);
}
