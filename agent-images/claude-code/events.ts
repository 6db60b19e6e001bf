/**
 * Reads what `claude -p --output-format stream-json` prints: one JSON object a line, one line for each block of a
 * message. Unknown lines give no event.
 *
 * @module
 */
import type { AgentEvent, AgentOutputParser } from "../agent_spec.ts";
import { type Json, list, number, object, parseObject, readable, string, textOf } from "../json.ts";

/** Tools that change the file that they are given. */
const FILE_TOOLS: ReadonlySet<string> = new Set(["Write", "Edit", "MultiEdit", "NotebookEdit"]);
/** Most calls without a result that are remembered. */
const MAX_OPEN_CALLS = 1000;

/** The output of one run. */
export class ClaudeOutput implements AgentOutputParser {
  /** file that a call changes, by the call's id */
  readonly #files = new Map<string, string>();

  line(line: string): AgentEvent[] {
    const event = parseObject(line);
    switch (event?.type) {
      case "assistant":
        return this.#blocks(event).flatMap((block) => this.#said(block));
      case "user":
        return this.#blocks(event).flatMap((block) => this.#given(block));
      case "system":
        return event.subtype === "api_retry" ? [{ type: "error", message: retry(event), fatal: false }] : [];
      case "result":
        return [usage(object(event.usage)), end(event)];
      default:
        return [];
    }
  }

  end(): AgentEvent[] {
    return [];
  }

  #blocks(event: Json): Json[] {
    return list(object(event.message).content).map(object);
  }

  #said(block: Json): AgentEvent[] {
    if (block.type === "text") return [{ type: "message", text: string(block.text) }];
    if (block.type === "thinking") return [{ type: "reasoning", text: string(block.thinking) }];
    if (block.type !== "tool_use") return [];
    const input = object(block.input);
    const id = string(block.id);
    const name = string(block.name);
    const path = string(input.file_path) || string(input.notebook_path);
    if (FILE_TOOLS.has(name) && path !== "" && this.#files.size < MAX_OPEN_CALLS) this.#files.set(id, path);
    const command = string(input.command);
    const given = command || path || readable(block.input);
    return [{ type: "tool_call", id, name, command: name === "Bash" && command !== "", input: given }];
  }

  #given(block: Json): AgentEvent[] {
    if (block.type !== "tool_result") return [];
    const id = string(block.tool_use_id);
    const output = textOf(block.content);
    const ok = block.is_error !== true;
    // "Exit code 7" is the first line of a command that failed
    const code = /^Exit code (\d{1,3})\b/.exec(output)?.[1];
    const exitCode = ok ? 0 : code === undefined ? null : Number(code);
    const path = this.#files.get(id);
    this.#files.delete(id);
    return [
      { type: "tool_result", id, output, exitCode, ok },
      ...(ok && path !== undefined ? [{ type: "file_change", paths: [path] } as const] : []),
    ];
  }
}

function retry(event: Json): string {
  const status = typeof event.error_status === "number" ? ` (status ${event.error_status})` : "";
  return `Retry ${number(event.attempt)} of ${number(event.max_retries)}: ${string(event.error)}${status}`;
}

/** The counts include what came from the cache and what was written to it. */
function usage(counts: Json): AgentEvent {
  const cachedTokens = number(counts.cache_read_input_tokens);
  return {
    type: "usage",
    inputTokens: number(counts.input_tokens) + cachedTokens + number(counts.cache_creation_input_tokens),
    cachedTokens,
    outputTokens: number(counts.output_tokens),
  };
}

/** `subtype` is "success" for a run that the API ended, too: what counts is `is_error`. */
function end(event: Json): AgentEvent {
  if (event.is_error === false) return { type: "done" };
  const message = string(event.result) || string(event.terminal_reason) || string(event.subtype);
  return { type: "error", message: message || "The run failed", fatal: true };
}
