/**
 * The events of one OpenAI Responses stream, in the order the real API sends them.
 *
 * @module
 */

import type { Conversation, ShellTool } from "./conversation.ts";
import type { Script } from "./script.ts";

/** One server-sent event; `type` is in the data as well. */
export type StreamEvent = { readonly type: string } & Record<string, unknown>;

const USAGE = {
  input_tokens: 100,
  input_tokens_details: { cached_tokens: 0 },
  output_tokens: 20,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 120,
} as const;

let lastId = 0;

function makeId(prefix: string): string {
  lastId += 1;
  return `${prefix}_${lastId.toString().padStart(8, "0")}`;
}

function pieces(text: string): string[] {
  const parts: string[] = [];
  for (let at = 0; at < text.length; at += 16) parts.push(text.slice(at, at + 16));
  return parts;
}

function messageEvents(outputIndex: number, text: string): { item: unknown; events: StreamEvent[] } {
  const id = makeId("msg");
  const at = { item_id: id, output_index: outputIndex, content_index: 0 };
  const part = { type: "output_text", text, annotations: [] };
  const item = { id, type: "message", role: "assistant", status: "completed", content: [part] };
  const opened = { ...item, status: "in_progress", content: [] };
  const events: StreamEvent[] = [
    { type: "response.output_item.added", output_index: outputIndex, item: opened },
    { type: "response.content_part.added", ...at, part: { ...part, text: "" } },
    ...pieces(text).map((delta) => ({ type: "response.output_text.delta", ...at, delta })),
    { type: "response.output_text.done", ...at, text },
    { type: "response.content_part.done", ...at, part },
    { type: "response.output_item.done", output_index: outputIndex, item },
  ];
  return { item, events };
}

/** Code mode takes JavaScript that calls the shell tool and says what it printed. */
function codeFor(command: string): string {
  return `const r = await tools.exec_command({"cmd":${JSON.stringify(command)}}); text(r.output);`;
}

function callEvents(outputIndex: number, call: { tool: ShellTool; command: string }): {
  item: unknown;
  events: StreamEvent[];
} {
  const isCode = call.tool.kind === "code";
  const id = makeId(isCode ? "ctc" : "fc");
  const field = isCode ? "input" : "arguments";
  const value = isCode ? codeFor(call.command) : JSON.stringify({ cmd: call.command });
  const item = {
    id,
    type: isCode ? "custom_tool_call" : "function_call",
    status: "completed",
    call_id: makeId("call"),
    name: call.tool.name,
    ...(call.tool.kind === "code" ? { namespace: call.tool.namespace } : {}),
    [field]: value,
  };
  const stem = isCode ? "response.custom_tool_call_input" : "response.function_call_arguments";
  const at = { item_id: id, output_index: outputIndex };
  const events: StreamEvent[] = [
    {
      type: "response.output_item.added",
      output_index: outputIndex,
      item: { ...item, status: "in_progress", [field]: "" },
    },
    ...pieces(value).map((delta) => ({ type: `${stem}.delta`, ...at, delta })),
    { type: `${stem}.done`, ...at, [field]: value },
    { type: "response.output_item.done", output_index: outputIndex, item },
  ];
  return { item, events };
}

/** All events of the answer to one request: text and one tool call, or the final text. */
export function answerEvents(conversation: Conversation, script: Script): StreamEvent[] {
  const response = { id: makeId("resp"), object: "response", created_at: 0, model: conversation.model };
  const command = script.commands[conversation.toolResultCount];
  const parts = command !== undefined && conversation.shell !== undefined
    ? [
      messageEvents(0, `Running command ${conversation.toolResultCount + 1}.`),
      callEvents(1, { tool: conversation.shell, command }),
    ]
    : [messageEvents(0, script.finalText)];
  const started = { ...response, status: "in_progress", output: [] };
  const completed = {
    ...response,
    status: "completed",
    output: parts.map((part) => part.item),
    usage: USAGE,
  };
  const events: StreamEvent[] = [
    { type: "response.created", response: started },
    { type: "response.in_progress", response: started },
    ...parts.flatMap((part) => part.events),
    { type: "response.completed", response: completed },
  ];
  return events.map((event, index) => ({ ...event, sequence_number: index }));
}

/** The event of a failure inside a stream. */
export function failedEvent(): StreamEvent {
  const error = { code: "server_error", message: "The scripted model failed on purpose" };
  return { type: "response.failed", response: { id: makeId("resp"), status: "failed", error } };
}

/** An event as it goes over the wire. */
export function encodeEvent(event: StreamEvent): Uint8Array {
  return new TextEncoder().encode(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
}
