/**
 * Runs a command in a session to its end, for clients that want one answer.
 *
 * @module
 */

import type { LiveSession } from "./live_session.ts";
import { MAX_ANSWER_BYTES, type RunResult, type RunSubmission } from "./session_schemas.ts";

/** The first bytes of a stream. */
class HeadBuffer {
  readonly #chunks: Uint8Array<ArrayBuffer>[] = [];
  #byteCount = 0;
  isTruncated = false;

  /** Takes bytes. */
  push(bytes: Uint8Array): void {
    const kept = bytes.slice(0, MAX_ANSWER_BYTES - this.#byteCount);
    this.isTruncated ||= kept.length < bytes.length;
    this.#byteCount += kept.length;
    if (kept.length > 0) this.#chunks.push(kept);
  }

  /** What was kept, as text. */
  async text(): Promise<string> {
    return await new Blob(this.#chunks).text();
  }
}

/** Runs a command; at the time limit, and when the signal aborts, it is killed with all its children. */
export async function runCommand(
  live: LiveSession,
  request: RunSubmission,
  signal: AbortSignal,
): Promise<RunResult> {
  const { stdin, timeoutMs, ...command } = request;
  const [stdout, stderr] = [new HeadBuffer(), new HeadBuffer()];
  const process = await live.exec(
    { ...command, agent: false, terminal: undefined, stdin: stdin !== undefined },
    { onStdout: (chunk) => stdout.push(chunk), onStderr: (chunk) => stderr.push(chunk) },
  );
  if (stdin !== undefined) {
    const bytes = new TextEncoder().encode(stdin);
    // A command may end before it read everything: that is its right
    void process.write(bytes).then(() => process.closeStdin()).catch(() => {});
  }
  const over = Promise.withResolvers<"late" | "gone">();
  const timer = setTimeout(() => over.resolve("late"), timeoutMs);
  const giveUp = (): void => over.resolve("gone");
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    const end = await Promise.race([process.exit, over.promise]);
    const exit = typeof end === "string" ? { exitCode: null, signal: 9 } : end;
    return {
      exitCode: exit.exitCode,
      signal: exit.signal,
      timedOut: end === "late",
      stdout: await stdout.text(),
      stderr: await stderr.text(),
      truncated: stdout.isTruncated || stderr.isTruncated,
    };
  } finally {
    process.close();
    clearTimeout(timer);
    signal.removeEventListener("abort", giveUp);
  }
}
