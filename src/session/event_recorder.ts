/**
 * Writes what an agent does to `transcript.jsonl` and passes it on: each event with its version and time, each result
 * of a tool after its call and with its duration, everything bounded.
 *
 * @module
 */

import type { AgentEvent, RecordedEvent } from "../../agent-images/agent_event.ts";

/** Longest text of one event, in characters: whole files pass through tools, and `raw.jsonl` has more. */
const MAX_TEXT_LENGTH = 256 * 1024;
/** Longest id, name or path: they are an agent's own words, too. */
const MAX_NAME_LENGTH = 4096;
const MAX_PATH_COUNT = 1000;
/** An agent could print without end. */
const MAX_TRANSCRIPT_BYTES = 64 * 1024 * 1024;
/** Beyond it there is still room for what says how the run ended. */
const END_BYTES = 1024 * 1024;
/** Most calls without a result that are remembered. */
const MAX_OPEN_CALLS = 10_000;

/** Options of {@linkcode EventRecorder}. */
export interface EventRecorderOptions {
  /** file to make */
  readonly path: string;
  readonly onEvent: (event: RecordedEvent) => void;
  /** time now in `ms` (default: the clock's) */
  readonly now?: () => number;
}

function cut(text: string): { text: string; truncated?: true } {
  if (text.length <= MAX_TEXT_LENGTH) return { text };
  // Half of a surrogate pair at the end would be no text
  return { text: text.slice(0, MAX_TEXT_LENGTH).replace(/[\ud800-\udbff]$/, ""), truncated: true };
}

function name(text: string): string {
  return text.slice(0, MAX_NAME_LENGTH);
}

/** The record of one run. */
export class EventRecorder implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #onEvent: (event: RecordedEvent) => void;
  readonly #now: () => number;
  /** start of each call that has no result yet, in `ms` */
  readonly #calls = new Map<string, number>();
  #byteCount = 0;
  #lineCount = 0;
  #isTruncated = false;

  /** Makes the file. */
  constructor(options: EventRecorderOptions) {
    this.#file = Deno.openSync(options.path, { write: true, createNew: true, mode: 0o600 });
    this.#onEvent = options.onEvent;
    this.#now = options.now ?? Date.now;
  }

  /** lines so far, and whether something was left out */
  get facts(): { readonly lineCount: number; readonly truncated: boolean } {
    return { lineCount: this.#lineCount, truncated: this.#isTruncated };
  }

  /** Records one event; a result whose call nobody saw gets one. */
  add(event: AgentEvent): void {
    const now = this.#now();
    if (event.type === "tool_call") this.#open(name(event.id), now);
    if (event.type === "tool_result" && !this.#calls.has(name(event.id))) {
      this.add({ type: "tool_call", id: event.id, name: "unknown", command: false, input: "" });
    }
    this.#write(this.#bounded(event, now));
  }

  #open(id: string, now: number): void {
    if (this.#calls.size >= MAX_OPEN_CALLS) this.#calls.clear();
    this.#calls.set(id, now);
  }

  #bounded(event: AgentEvent, now: number): RecordedEvent {
    const stamp = { v: 1, at: new Date(now).toISOString() } as const;
    switch (event.type) {
      case "message":
      case "reasoning":
        return { ...stamp, ...event, ...cut(event.text) };
      case "error": {
        const { text, ...more } = cut(event.message);
        return { ...stamp, ...event, message: text, ...more };
      }
      case "tool_call": {
        const { text, ...more } = cut(event.input);
        return { ...stamp, ...event, id: name(event.id), name: name(event.name), input: text, ...more };
      }
      case "tool_result": {
        const id = name(event.id);
        const durationMs = event.durationMs ?? Math.max(0, now - (this.#calls.get(id) ?? now));
        this.#calls.delete(id);
        const { text, ...more } = cut(event.output);
        const exitCode = Number.isSafeInteger(event.exitCode) ? event.exitCode : null;
        return { ...stamp, ...event, id, exitCode, durationMs, output: text, ...more };
      }
      case "file_change":
        return { ...stamp, ...event, paths: event.paths.slice(0, MAX_PATH_COUNT).map(name) };
      case "usage": {
        const { inputTokens, cachedTokens, outputTokens } = event;
        const counts = [inputTokens, cachedTokens, outputTokens].map((count) => Math.max(0, count));
        const [input = 0, cached = 0, output = 0] = counts;
        return { ...stamp, type: "usage", inputTokens: input, cachedTokens: cached, outputTokens: output };
      }
      case "done":
        return { ...stamp, ...event };
    }
  }

  #write(event: RecordedEvent): void {
    const bytes = new TextEncoder().encode(`${JSON.stringify(event)}\n`);
    const isEnd = event.type === "done" || event.type === "usage" || (event.type === "error" && event.fatal);
    if (this.#byteCount + bytes.length > MAX_TRANSCRIPT_BYTES + (isEnd ? END_BYTES : 0)) {
      this.#isTruncated = true;
      return;
    }
    this.#byteCount += bytes.length;
    this.#lineCount += 1;
    for (let at = 0; at < bytes.length;) at += this.#file.writeSync(bytes.subarray(at));
    this.#onEvent(event);
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
