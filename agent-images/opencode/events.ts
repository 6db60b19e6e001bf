/**
 * Reads what `opencode run --format json` prints: one JSON object a line, a tool call when it is over. Unknown lines give
 * no event.
 *
 * @module
 */
import type { AgentEvent, AgentOutputParser } from "../agent_spec.ts";
import { type Json, number, object, parseObject, readable, string } from "../json.ts";

/** Tools that change the file that they are given. */
const FILE_TOOLS: ReadonlySet<string> = new Set(["write", "edit"]);

/** The output of one run. */
export class OpenCodeOutput implements AgentOutputParser {
  #inputTokens = 0;
  #cachedTokens = 0;
  #outputTokens = 0;

  line(line: string): AgentEvent[] {
    const event = parseObject(line);
    const part = object(event?.part);
    switch (event?.type) {
      case "text":
        return string(part.text) === "" ? [] : [{ type: "message", text: string(part.text) }];
      case "reasoning":
        return string(part.text) === "" ? [] : [{ type: "reasoning", text: string(part.text) }];
      case "tool_use":
        return toolUse(part);
      case "step_finish":
        return this.#stepFinish(part);
      case "error":
        return [{ type: "error", message: describeError(object(event.error)), fatal: true }];
      default:
        return [];
    }
  }

  end(): AgentEvent[] {
    return [];
  }

  /** Each step is one answer of the model, with that answer's tokens. */
  #stepFinish(part: Json): AgentEvent[] {
    const tokens = object(part.tokens);
    const cache = object(tokens.cache);
    this.#inputTokens += number(tokens.input) + number(cache.read) + number(cache.write);
    this.#cachedTokens += number(cache.read);
    this.#outputTokens += number(tokens.output) + number(tokens.reasoning);
    const usage: AgentEvent = {
      type: "usage",
      inputTokens: this.#inputTokens,
      cachedTokens: this.#cachedTokens,
      outputTokens: this.#outputTokens,
    };
    switch (part.reason) {
      case "stop":
        return [usage, { type: "done" }];
      case "tool-calls":
        return [usage];
      default:
        return [usage, {
          type: "error",
          message: `The model's answer ended early (${string(part.reason) || "no reason given"})`,
          fatal: false,
        }];
    }
  }
}

function toolUse(part: Json): AgentEvent[] {
  const state = object(part.state);
  const given = object(state.input);
  const id = string(part.callID);
  const name = string(part.tool);
  const path = FILE_TOOLS.has(name) ? string(given.filePath) : "";
  const command = name === "bash" && string(given.command) !== "";
  const input = string(given.command) || path || readable(state.input);
  const exit = object(state.metadata).exit;
  const exitCode = typeof exit === "number" ? exit : null;
  const ok = state.status === "completed" && (exitCode ?? 0) === 0;
  const { start, end } = object(state.time);
  return [
    { type: "tool_call", id, name, command, input },
    {
      type: "tool_result",
      id,
      output: string(state.output) || string(state.error),
      exitCode,
      ok,
      durationMs: Math.max(0, number(end) - number(start)),
    },
    ...(ok && path !== "" ? [{ type: "file_change", paths: [path] } as const] : []),
  ];
}

function describeError(error: Json): string {
  const data = object(error.data);
  const status = typeof data.statusCode === "number" ? ` (status ${data.statusCode})` : "";
  return `${string(data.message) || string(error.name) || "The run failed"}${status}`;
}
