/**
 * Runs an agent's command in a guest and turns its output into events.
 *
 * @module
 */

import type { AgentEvent, AgentOutputParser, AgentSpec, AgentTask } from "../../agent-images/agent_spec.ts";
import type { GuestCommand, GuestExit } from "./guest_client.ts";
import { LineSplitter } from "../network/line_splitter.ts";
import { type RunEnd, type RunLimits, type RunningCommand, waitForEnd } from "./run_end.ts";
import type { RecordFacts, TokenUsage } from "./task.ts";
import { TextTail } from "./text_tail.ts";

/** A guest could print one endless line, or print without end. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;
const MAX_RAW_BYTES = 256 * 1024 * 1024;
const MAX_STDERR_EVENT_BYTES = 256 * 1024;

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
  /** the agent's own lines, and whether some were left out */
  readonly raw: RecordFacts;
}

/** Options of {@linkcode runAgent}. */
export interface AgentRunOptions extends RunLimits {
  readonly guest: { exec(command: GuestCommand): Promise<RunningCommand> };
  readonly spec: AgentSpec;
  readonly task: AgentTask;
  /** variables of its user's; those that the agent needs go before */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** file to write the agent's own lines to */
  readonly rawPath: string;
  readonly onEvent: (event: AgentEvent) => void;
  readonly onStderr: (text: string) => void;
}

/** What the agent's output amounts to. */
class OutputReader {
  readonly #splitter = new LineSplitter(MAX_LINE_BYTES, "drop");
  readonly #parser: AgentOutputParser;
  readonly #onEvent: (event: AgentEvent) => void;
  readonly #raw: Deno.FsFile;
  #rawBytes = 0;
  #isTruncated = false;
  sawDone = false;
  fatalMessage: string | null = null;
  finalMessage: string | null = null;
  usage: TokenUsage | null = null;
  lineCount = 0;

  constructor(options: AgentRunOptions, raw: Deno.FsFile) {
    this.#parser = options.spec.newParser();
    this.#onEvent = options.onEvent;
    this.#raw = raw;
  }

  get isTruncated(): boolean {
    return this.#isTruncated || this.#splitter.droppedCount > 0;
  }

  async push(chunk: Uint8Array): Promise<void> {
    for (const line of this.#splitter.push(chunk)) await this.#takeLine(line);
  }

  async flush(exitCode: number | null): Promise<void> {
    for (const line of this.#splitter.flush()) await this.#takeLine(line);
    for (const event of this.#parser.end(exitCode)) this.#takeEvent(event);
  }

  async #takeLine(line: string): Promise<void> {
    this.lineCount += 1;
    const bytes = new TextEncoder().encode(`${line}\n`);
    this.#rawBytes += bytes.length;
    if (this.#rawBytes > MAX_RAW_BYTES) this.#isTruncated = true;
    else for (let at = 0; at < bytes.length;) at += await this.#raw.write(bytes.subarray(at));
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

/** Runs the agent to its end, whatever that is; only a failure to start it is thrown. */
export async function runAgent(options: AgentRunOptions): Promise<AgentRunFacts> {
  const { argv, env } = options.spec.command(options.task);
  using raw = await Deno.open(options.rawPath, { write: true, createNew: true, mode: 0o600 });
  const output = new OutputReader(options, raw);
  const stderr = new TextTail(8192);
  const stderrDecoder = new TextDecoder();
  let stderrBytes = 0;
  const process = await options.guest.exec({
    argv,
    env: { ...options.env, ...env },
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

  const { end, exit } = await waitForEnd(process, options);
  await output.flush(exit?.exitCode ?? null);
  return {
    end,
    exit,
    sawDone: output.sawDone,
    fatalMessage: output.fatalMessage,
    finalMessage: output.finalMessage,
    usage: output.usage,
    stderrTail: stderr.lastLines(5),
    raw: { lineCount: output.lineCount, truncated: output.isTruncated },
  };
}
