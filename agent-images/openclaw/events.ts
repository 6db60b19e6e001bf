/**
 * Reads what `openclaw agent exec --json` prints: one JSON object over many lines, at the end.
 *
 * @module
 */
import type { AgentEvent, AgentOutputParser } from "../agent_spec.ts";
import { number, object, parseObject, string } from "../json.ts";

/** Longest object that is read, in characters. */
const MAX_LENGTH = 16 * 1024 * 1024;

/** The output of one run. */
export class OpenClawOutput implements AgentOutputParser {
  #text = "";

  line(line: string): AgentEvent[] {
    if (this.#text.length + line.length < MAX_LENGTH) this.#text += `${line}\n`;
    return [];
  }

  end(): AgentEvent[] {
    // What a program that it started printed may stand before it.
    const start = this.#text.search(/^\{/m);
    const result = parseObject(this.#text.slice(Math.max(0, start)));
    if (result === undefined) return [];
    const counts = object(result.usage);
    const message: AgentEvent[] = string(result.final) === ""
      ? []
      : [{ type: "message", text: string(result.final) }];
    const usage: AgentEvent = {
      type: "usage",
      inputTokens: number(counts.input) + number(counts.cacheRead) + number(counts.cacheWrite),
      cachedTokens: number(counts.cacheRead),
      outputTokens: number(counts.output),
    };
    if (result.ok === true) return [...message, usage, { type: "done" }];
    const reason = string(object(result.error).message) || `The run ended as "${string(result.status)}"`;
    return [...message, usage, { type: "error", message: reason, fatal: true }];
  }
}
