/**
 * Reads what OpenClaw asks its model (OpenAI's Responses): each request carries the whole conversation, so that what the
 * model said and what the tools gave is in the next one.
 *
 * @module
 */
import type { AgentEvent, AgentTrafficParser } from "../agent_spec.ts";
import { type Json, list, object, parseObject, readable, string, textOf } from "../json.ts";

/** Tools that change the file that they are given. */
const FILE_TOOLS: ReadonlySet<string> = new Set(["write", "edit"]);
/** Most messages and calls that are remembered as told. */
const MAX_ITEMS = 10_000;

/** The requests of one run. */
export class OpenClawTraffic implements AgentTrafficParser {
  readonly #told = new Set<string>();
  /** what is remembered of each call: whether it was a command, and the file that it changes */
  readonly #calls = new Map<string, { readonly command: boolean; readonly path: string }>();

  request(body: unknown): AgentEvent[] {
    const items = list(object(body).input).map(object);
    // What stands before the user's last message is of an earlier turn.
    const isUser = ({ role }: Json): boolean => role === "user";
    return items.slice(items.findLastIndex(isUser) + 1).flatMap((item) => this.#event(item));
  }

  #event(item: Json): AgentEvent[] {
    const id = string(item.call_id);
    const text = item.role === "assistant" ? textOf(item.content) : "";
    const key = `${string(item.type)} ${id || text || string(item.id)}`;
    if (id + text + string(item.id) === "" || this.#told.has(key) || this.#told.size >= MAX_ITEMS) return [];
    this.#told.add(key);
    if (text !== "") return [{ type: "message", text }];
    switch (item.type) {
      case "function_call": {
        const name = string(item.name);
        const given = object(parseObject(string(item.arguments)));
        const path = FILE_TOOLS.has(name) ? string(given.path) || string(given.file_path) : "";
        const command = name === "exec" && string(given.command) !== "";
        this.#calls.set(id, { command, path });
        const input = string(given.command) || path || readable(item.arguments);
        return [{ type: "tool_call", id, name, command, input }];
      }
      case "function_call_output":
        return this.#result(id, readable(item.output));
      case "reasoning": {
        const summary = textOf(item.summary) || textOf(item.content);
        return summary === "" ? [] : [{ type: "reasoning", text: summary }];
      }
      default:
        return [];
    }
  }

  #result(id: string, output: string): AgentEvent[] {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    // A command that failed says so in its last line; of other tools only their words tell how it went
    const failed = call?.command === true ? /\(Command exited with code (\d{1,3})\)\s*$/.exec(output) : null;
    const isOver = call?.command === true && !/^Command still running/.test(output);
    const exitCode = failed !== null ? Number(failed[1]) : isOver ? 0 : null;
    const result = { type: "tool_result", id, output, exitCode, ok: failed === null } as const;
    const path = call?.path ?? "";
    return path === "" ? [result] : [result, { type: "file_change", paths: [path] }];
  }
}
