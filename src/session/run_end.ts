/**
 * How a command in a guest comes to its end, whatever ends it: itself, the time limit, the user, the VM. Why it ended
 * is decided once; the first cause wins.
 *
 * @module
 */

import type { GuestExit, GuestProcess } from "./guest_client.ts";
import { describeVmEnd, type VmEnd } from "./vmm_process.ts";

const SIGTERM = 15;
const SIGKILL = 9;
const TERM_GRACE_MS = 8000;
const KILL_GRACE_MS = 5000;

/** What ended a run. */
export type RunEnd =
  | { readonly kind: "exited"; readonly exit: GuestExit }
  | { readonly kind: "deadline" }
  | { readonly kind: "cancelled" }
  | { readonly kind: "vm_ended"; readonly message: string }
  | { readonly kind: "lost"; readonly message: string };

/** A command whose end is waited for. */
export type RunningCommand = Pick<GuestProcess, "exit" | "signal" | "close">;

/** What a run is watched for. */
export interface RunLimits {
  readonly timeoutMs: number;
  /** pause between SIGTERM and SIGKILL in `ms` (default 8 s) */
  readonly termGraceMs?: number | undefined;
  readonly signal: AbortSignal;
  /** settles when the VM is gone */
  readonly vmEnded: Promise<VmEnd>;
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/**
 * Waits for the end of a command and sees to it that there is one: at the time limit SIGTERM, then SIGKILL.
 * `exit` is how the command itself ended, if that was seen.
 */
export async function waitForEnd(
  process: RunningCommand,
  limits: RunLimits,
): Promise<{ end: RunEnd; exit: GuestExit | null }> {
  const settled = new AbortController();
  const end = await Promise.race<RunEnd>([
    process.exit.then(
      (exit) => ({ kind: "exited", exit }),
      (error) => ({ kind: "lost", message: error instanceof Error ? error.message : String(error) }),
    ),
    delay(limits.timeoutMs, settled.signal).then(() => ({ kind: "deadline" })),
    aborted(AbortSignal.any([limits.signal, settled.signal])).then(() => ({ kind: "cancelled" })),
    limits.vmEnded.then((vmEnd) => ({ kind: "vm_ended", message: describeVmEnd(vmEnd) })),
  ]);
  settled.abort();
  let exit = end.kind === "exited" ? end.exit : null;
  if (end.kind === "deadline") exit = await endProcess(process, limits.termGraceMs ?? TERM_GRACE_MS);
  process.close();
  return { end: end.kind === "lost" ? await preferVmEnd(end, limits.vmEnded) : end, exit };
}

/** A broken connection mostly means that the VM is going; its own account of that says more. */
async function preferVmEnd(lost: RunEnd, vmEnded: Promise<VmEnd>): Promise<RunEnd> {
  return await Promise.race([
    vmEnded.then((vmEnd): RunEnd => ({ kind: "vm_ended", message: describeVmEnd(vmEnd) })),
    new Promise<RunEnd>((resolve) => setTimeout(() => resolve(lost), 1000)),
  ]);
}

/** SIGTERM, then SIGKILL; gives how the command ended, if it did in time. */
async function endProcess(
  process: RunningCommand,
  termGraceMs: number,
): Promise<GuestExit | null> {
  for (const [signalNumber, graceMs] of [[SIGTERM, termGraceMs], [SIGKILL, KILL_GRACE_MS]] as const) {
    const over = new AbortController();
    // A guest that no longer reads is not waited for.
    void process.signal(signalNumber).catch(() => {});
    const exit = await Promise.race([
      process.exit.catch(() => null),
      delay(graceMs, over.signal).then(() => undefined),
    ]);
    over.abort();
    if (exit !== undefined) return exit;
  }
  return null;
}
