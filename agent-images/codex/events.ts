/**
 * Reads what `codex exec --json` prints: one JSON object a line. Unknown lines give no event, and no value in
 * a line is trusted to have the type that it should have.
 *
 * @module
 */
import type { AgentEvent } from "../agent_spec.ts";
import { type Json, list, number, object, parseObject, readable, string } from "../json.ts";

/** Turns one line of Codex's stdout into events. */
export function parseLine(line: string): AgentEvent[] {
  const event = parseObject(line);
  if (event === undefined) return [];
  switch (event.type) {
    case "item.started":
      return itemStarted(object(event.item));
    case "item.completed":
      return itemCompleted(object(event.item));
    case "error":
      // Codex says "Reconnecting… 1/2" this way; what ends the run comes as turn.failed
      return [{ type: "error", message: string(event.message), fatal: false }];
    case "turn.failed":
      return [{
        type: "error",
        message: string(object(event.error).message) || "The turn failed",
        fatal: true,
      }];
    case "turn.completed":
      return [usage(object(event.usage)), { type: "done" }];
    default:
      return [];
  }
}

function itemStarted(item: Json): AgentEvent[] {
  const id = string(item.id);
  switch (item.type) {
    case "command_execution":
      return [{ type: "tool_call", id, name: "shell", command: true, input: string(item.command) }];
    case "mcp_tool_call":
    case "collab_tool_call":
      return [{
        type: "tool_call",
        id,
        name: string(item.tool) || String(item.type),
        command: false,
        input: readable(item.arguments),
      }];
    default:
      return [];
  }
}

function itemCompleted(item: Json): AgentEvent[] {
  const id = string(item.id);
  switch (item.type) {
    case "agent_message":
      return [{ type: "message", text: string(item.text) }];
    case "reasoning":
      return [{ type: "reasoning", text: string(item.text) }];
    case "command_execution": {
      const exitCode = typeof item.exit_code === "number" ? item.exit_code : null;
      return [{
        type: "tool_result",
        id,
        output: string(item.aggregated_output),
        exitCode,
        ok: item.status === "completed",
      }];
    }
    case "mcp_tool_call":
    case "collab_tool_call":
      return [{
        type: "tool_result",
        id,
        output: readable(item.result ?? item.error),
        exitCode: null,
        ok: item.status === "completed",
      }];
    case "web_search":
      // It comes once, when it is over
      return [
        { type: "tool_call", id, name: "web_search", command: false, input: string(item.query) },
        { type: "tool_result", id, output: "", exitCode: null, ok: true },
      ];
    case "file_change":
      return fileChange(item);
    case "error":
      return [{ type: "error", message: string(item.message), fatal: false }];
    default:
      return [];
  }
}

function fileChange(item: Json): AgentEvent[] {
  const paths = list(item.changes).map((change) => string(object(change).path));
  if (item.status !== "failed") return [{ type: "file_change", paths }];
  return [{ type: "error", message: `Could not change ${paths.join(", ")}`, fatal: false }];
}

function usage(counts: Json): AgentEvent {
  return {
    type: "usage",
    inputTokens: number(counts.input_tokens),
    cachedTokens: number(counts.cached_input_tokens),
    outputTokens: number(counts.output_tokens),
  };
}
