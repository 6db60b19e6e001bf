/**
 * The emulated KVM host: a Linux machine under QEMU's software emulation whose `/dev/kvm` is whole, running the
 * same server that runs natively. It stays in the background until it is stopped.
 *
 * @module
 */
import { join } from "node:path";
import { withLock } from "../images/build_once.ts";
import { requireTools } from "../images/host_tools.ts";
import { ImageError } from "../images/image_error.ts";
import { cacheDir, sourceDir } from "../images/paths.ts";
import type { OnProgress } from "../images/progress.ts";
import { type ExecChild, openExec } from "../api/exec_client.ts";
import type { ExecRequest, HostInfo } from "./exec_protocol.ts";
import { HostError } from "./host_error.ts";
import { type HostImage, prepareHostImage } from "./host_image.ts";
import {
  type HostRecord,
  killHost,
  LAUNCH,
  readRecord,
  readToken,
  runDir,
  spawnHost,
  supervisorPid,
  writeStamp,
} from "./host_process.ts";
import { sourceStamp } from "./source_stamp.ts";

export type { ExecChild } from "../api/exec_client.ts";
export { HostError } from "./host_error.ts";
export { exchangeDir } from "./host_process.ts";

/** A host that answers. */
export interface EmulatedHost {
  readonly url: string;
  readonly token: string;
}

/** What `sandbox host status` shows. */
export interface EmulatedHostStatus {
  readonly running: boolean;
  readonly pid?: number;
  readonly url?: string;
  readonly startedAt?: string;
  readonly memoryMib?: number;
}

/** How the host is started. */
export interface StartOptions {
  readonly onProgress: OnProgress;
  readonly signal?: AbortSignal;
}

/** How long the host may take to answer after its start, in `ms`. */
const START_TIMEOUT_MS = 180_000;

/** How long a host that runs may take to answer before it is taken for hung, in `ms`: it may be very busy. */
const ANSWER_TIMEOUT_MS = 45_000;

/**
 * Returns the running host, or builds what is missing and starts it. A server that was started from an older
 * state of the source tree is restarted, unless it is busy.
 *
 * @throws {ImageError} when something that it is made from is missing
 * @throws {HostError} when it does not start
 */
export async function startEmulatedHost(options: StartOptions): Promise<EmulatedHost> {
  await requireTools("emulated-host");
  const image = await prepareHostImage({ onProgress: options.onProgress, signal: options.signal });
  return await withLock(join(runDir(), "start.lock"), options.signal, async () => {
    const record = await readRecord();
    if (record !== undefined && await supervisorPid() !== undefined) {
      const host = { url: urlOf(record), token: await readToken() };
      if (isCurrent(record, image)) {
        if (await refreshServer(host, options)) return host;
      } else {
        await refuseIfBusy(host);
      }
    }
    return await startFresh(image, options);
  });
}

/** Whether the host is running, and where. */
export async function emulatedHostStatus(): Promise<EmulatedHostStatus> {
  const [pid, record] = [await supervisorPid(), await readRecord()];
  if (pid === undefined || record === undefined) return { running: false };
  return { running: true, pid, url: urlOf(record), startedAt: record.startedAt, memoryMib: record.memoryMib };
}

/** Ends the host and everything in it; nothing of it remains. */
export async function stopEmulatedHost(): Promise<void> {
  await withLock(join(runDir(), "start.lock"), undefined, killHost);
}

/** Runs a command in the host as root. */
export function execInEmulatedHost(host: EmulatedHost, command: ExecRequest): ExecChild {
  return openExec({
    url: `${host.url}/host/exec`,
    token: host.token,
    request: { ...command },
    where: "the emulated host",
  });
}

function urlOf(record: HostRecord): string {
  return `http://127.0.0.1:${record.port}`;
}

function isCurrent(record: HostRecord, image: HostImage): boolean {
  return record.imageKey === image.key && record.launch === LAUNCH && record.sourceDir === sourceDir() &&
    record.cacheDir === cacheDir();
}

/** A host that was started from other folders, or in another way, is replaced; but not under running tasks. */
async function refuseIfBusy(host: EmulatedHost): Promise<void> {
  const headers = { authorization: `Bearer ${host.token}` };
  let active = 0;
  try {
    const answer = await fetch(`${host.url}/host/info`, { headers, signal: AbortSignal.timeout(5000) });
    active = (await answer.json() as HostInfo).active;
  } catch {
    // it does not answer: nothing that could be kept runs in it
    return;
  }
  if (active === 0) return;
  const what =
    "The emulated host that runs was started from another source tree, cache or version, and is busy";
  throw new HostError("busy", `${what}: wait for its tasks, or end them with "deno task sandbox host stop"`);
}

async function startFresh(image: HostImage, options: StartOptions): Promise<EmulatedHost> {
  const started = performance.now();
  const step = "emulated-host-start";
  options.onProgress({ type: "step", step, message: "Starting the emulated KVM host", index: 1, count: 1 });
  await killHost();
  let host: EmulatedHost;
  try {
    const record = await spawnHost(image, options.signal);
    host = { url: urlOf(record), token: await readToken() };
    await waitForInfo(host, options.signal);
  } catch (error) {
    await killHost();
    throw error;
  }
  options.onProgress({ type: "done", step, ms: Math.round(performance.now() - started) });
  return host;
}

/** Makes sure that the running host's server answers and is not older than the source; false: it is broken. */
async function refreshServer(host: EmulatedHost, options: StartOptions): Promise<boolean> {
  let info: HostInfo;
  try {
    info = await waitForInfo(host, options.signal, ANSWER_TIMEOUT_MS);
  } catch (error) {
    if (error instanceof HostError) return false;
    throw error;
  }
  if (info.sourceStamp === await sourceStamp(sourceDir())) return true;
  if (info.active > 0) {
    const message = "The emulated host is busy and keeps running the server of an older source tree";
    options.onProgress({ type: "notice", message });
    return true;
  }
  await writeStamp();
  const headers = { authorization: `Bearer ${host.token}` };
  const answer = await fetch(`${host.url}/host/restart`, { method: "POST", headers });
  await answer.body?.cancel();
  await new Promise((resolve) => setTimeout(resolve, 200));
  await waitForInfo(host, options.signal);
  return true;
}

async function waitForInfo(
  host: EmulatedHost,
  signal: AbortSignal | undefined,
  timeoutMs = START_TIMEOUT_MS,
): Promise<HostInfo> {
  const deadline = performance.now() + timeoutMs;
  // A supervisor that was just spawned needs a moment to write its pid
  const graceEnd = performance.now() + 3000;
  for (;;) {
    if (signal?.aborted) {
      throw new ImageError("aborted", "Stopped while the emulated host started", "Run the command again");
    }
    try {
      const headers = { authorization: `Bearer ${host.token}` };
      const answer = await fetch(`${host.url}/host/info`, { headers, signal: AbortSignal.timeout(5000) });
      if (answer.ok) return await answer.json() as HostInfo;
      await answer.body?.cancel();
    } catch {
      // not up yet: QEMU takes the connection before the guest's server listens, then drops it
    }
    const alive = performance.now() < graceEnd || await supervisorPid() !== undefined;
    if (!alive || performance.now() > deadline) throw await startFailure(alive, timeoutMs);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function startFailure(alive: boolean, timeoutMs: number): Promise<HostError> {
  const tails: string[] = [];
  for (const name of ["supervisor.log", "console.log"]) {
    const text = await Deno.readTextFile(join(runDir(), name)).catch(() => "");
    if (text.trim() !== "") tails.push(`${name}: ${text.trim().split("\n").slice(-8).join("\n")}`);
  }
  const what = alive ? `did not answer within ${timeoutMs / 1000} s` : "ended while starting";
  return new HostError("start_failed", `The emulated host ${what}\n${tails.join("\n")}`);
}
