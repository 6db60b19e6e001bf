/**
 * Reads what OpenClaw asks its model (OpenAI's Responses): each request carries the whole conversation, so that what the
 * model said and what the tools gave is in the next one.
 *
 * @module
 */
import type { AgentEvent, AgentTrafficParser } from "../agent_spec.ts";
import { type Json, list, object, parseObject, readable, string, textOf } from "../json.ts";

/** Most messages and calls that are remembered as told. */
const MAX_ITEMS = 10_000;

/** The requests of one run. */
export class OpenClawTraffic implements AgentTrafficParser {
  readonly #told = new Set<string>();

  request(body: unknown): AgentEvent[] {
    const items = list(object(body).input).map(object);
    // What stands before the user's last message is of an earlier turn.
    const isUser = ({ role }: Json): boolean => role === "user";
    return items.slice(items.findLastIndex(isUser) + 1).flatMap((item) => this.#event(item));
  }

  #event(item: Json): AgentEvent[] {
    const id = string(item.call_id);
    const text = item.role === "assistant" ? textOf(item.content) : "";
    const key = `${string(item.type)} ${id || text}`;
    if (id + text === "" || this.#told.has(key) || this.#told.size >= MAX_ITEMS) return [];
    this.#told.add(key);
    if (text !== "") return [{ type: "message", text }];
    switch (item.type) {
      case "function_call": {
        const input = string(object(parseObject(string(item.arguments))).command) || readable(item.arguments);
        return [{ type: "tool_call", id, name: string(item.name), input }];
      }
      case "function_call_output":
        // Whether it went well is known to the tool only.
        return [{ type: "tool_result", id, output: readable(item.output), exitCode: null, ok: true }];
      default:
        return [];
    }
  }
}
