/**
 * Runs an agent's command in a guest, turns its output into events, and sees to it that the run ends: with a
 * deadline, SIGTERM, then SIGKILL. Why it ended is recorded once; the first cause wins.
 *
 * @module
 */

import type { AgentEvent, AgentOutputParser, AgentSpec, AgentTask } from "../../agent-images/agent_spec.ts";
import type { GuestClient, GuestExit } from "./guest_client.ts";
import { LineSplitter } from "../network/line_splitter.ts";
import type { TokenUsage } from "./task.ts";
import { TextTail } from "./text_tail.ts";
import { describeVmEnd, type VmEnd } from "./vmm_process.ts";

const SIGTERM = 15;
const SIGKILL = 9;
const TERM_GRACE_MS = 8000;
const KILL_GRACE_MS = 5000;
/** A guest could print one endless line, or print without end. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;
const MAX_TRANSCRIPT_BYTES = 256 * 1024 * 1024;
const MAX_STDERR_EVENT_BYTES = 256 * 1024;

/** What ended a run. */
export type RunEnd =
  | { readonly kind: "exited"; readonly exit: GuestExit }
  | { readonly kind: "deadline" }
  | { readonly kind: "cancelled" }
  | { readonly kind: "vm_ended"; readonly message: string }
  | { readonly kind: "lost"; readonly message: string };

/** Facts of a run. */
export interface AgentRunFacts {
  readonly end: RunEnd;
  /** how the command itself ended, if that was seen */
  readonly exit: GuestExit | null;
  /** the agent said that it completed its turn */
  readonly sawDone: boolean;
  /** first error that made the agent give up */
  readonly fatalMessage: string | null;
  readonly finalMessage: string | null;
  readonly usage: TokenUsage | null;
  readonly stderrTail: string;
  readonly lineCount: number;
  readonly transcriptTruncated: boolean;
}

/** Options of {@linkcode runAgent}. */
export interface AgentRunOptions {
  readonly guest: Pick<GuestClient, "exec">;
  readonly spec: AgentSpec;
  readonly task: AgentTask;
  readonly timeoutMs: number;
  /** pause between SIGTERM and SIGKILL in `ms` (default 8 s) */
  readonly termGraceMs?: number;
  readonly signal: AbortSignal;
  /** settles when the VM is gone */
  readonly vmEnded: Promise<VmEnd>;
  /** file to write the agent's lines to */
  readonly transcriptPath: string;
  readonly onEvent: (event: AgentEvent) => void;
  readonly onStderr: (text: string) => void;
}

/** What the agent's output amounts to. */
class OutputReader {
  readonly #splitter = new LineSplitter(MAX_LINE_BYTES, "drop");
  readonly #parser: AgentOutputParser;
  readonly #onEvent: (event: AgentEvent) => void;
  readonly #transcript: Deno.FsFile;
  #transcriptBytes = 0;
  #isTruncated = false;
  sawDone = false;
  fatalMessage: string | null = null;
  finalMessage: string | null = null;
  usage: TokenUsage | null = null;
  lineCount = 0;

  constructor(options: AgentRunOptions, transcript: Deno.FsFile) {
    this.#parser = options.spec.newParser();
    this.#onEvent = options.onEvent;
    this.#transcript = transcript;
  }

  get isTruncated(): boolean {
    return this.#isTruncated || this.#splitter.droppedCount > 0;
  }

  async push(chunk: Uint8Array): Promise<void> {
    for (const line of this.#splitter.push(chunk)) await this.#takeLine(line);
  }

  async flush(): Promise<void> {
    for (const line of this.#splitter.flush()) await this.#takeLine(line);
    for (const event of this.#parser.end()) this.#takeEvent(event);
  }

  async #takeLine(line: string): Promise<void> {
    this.lineCount += 1;
    const bytes = new TextEncoder().encode(`${line}\n`);
    this.#transcriptBytes += bytes.length;
    if (this.#transcriptBytes > MAX_TRANSCRIPT_BYTES) this.#isTruncated = true;
    else for (let at = 0; at < bytes.length;) at += await this.#transcript.write(bytes.subarray(at));
    for (const event of this.#parser.line(line)) this.#takeEvent(event);
  }

  #takeEvent(event: AgentEvent): void {
    if (event.type === "message") this.finalMessage = event.text;
    else if (event.type === "usage") {
      const { inputTokens, cachedTokens, outputTokens } = event;
      this.usage = { inputTokens, cachedTokens, outputTokens };
    } else if (event.type === "done") this.sawDone = true;
    else if (event.type === "error" && event.fatal) this.fatalMessage ??= event.message;
    this.#onEvent(event);
  }
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

/** Runs the agent to its end, whatever that is; only a failure to start it is thrown. */
export async function runAgent(options: AgentRunOptions): Promise<AgentRunFacts> {
  const { argv, env } = options.spec.command(options.task);
  using transcript = await Deno.open(options.transcriptPath, { write: true, createNew: true, mode: 0o600 });
  const output = new OutputReader(options, transcript);
  const stderr = new TextTail(8192);
  const stderrDecoder = new TextDecoder();
  let stderrBytes = 0;
  const process = await options.guest.exec({
    argv,
    env,
    cwd: "/workspace",
    user: "agent",
    onStdout: (chunk) => output.push(chunk),
    onStderr: (chunk) => {
      stderr.push(chunk);
      stderrBytes += chunk.length;
      if (stderrBytes <= MAX_STDERR_EVENT_BYTES) {
        options.onStderr(stderrDecoder.decode(chunk, { stream: true }));
      }
    },
  });

  const settled = new AbortController();
  const end = await Promise.race<RunEnd>([
    process.exit.then(
      (exit) => ({ kind: "exited", exit }),
      (error) => ({ kind: "lost", message: error instanceof Error ? error.message : String(error) }),
    ),
    delay(options.timeoutMs, settled.signal).then(() => ({ kind: "deadline" })),
    aborted(AbortSignal.any([options.signal, settled.signal])).then(() => ({ kind: "cancelled" })),
    options.vmEnded.then((vmEnd) => ({ kind: "vm_ended", message: describeVmEnd(vmEnd) })),
  ]);
  settled.abort();
  let exit = end.kind === "exited" ? end.exit : null;
  if (end.kind === "deadline") exit = await endProcess(process, options.termGraceMs ?? TERM_GRACE_MS);
  process.close();
  await output.flush();
  return {
    end: end.kind === "lost" ? await preferVmEnd(end, options.vmEnded) : end,
    exit,
    sawDone: output.sawDone,
    fatalMessage: output.fatalMessage,
    finalMessage: output.finalMessage,
    usage: output.usage,
    stderrTail: stderr.lastLines(5),
    lineCount: output.lineCount,
    transcriptTruncated: output.isTruncated,
  };
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
  process: { readonly exit: Promise<GuestExit>; signal(signalNumber: number): Promise<void> },
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
