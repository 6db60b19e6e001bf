/**
 * OpenAI's Responses protocol: requests, and the events of a stream in the order the real API sends them.
 *
 * @module
 */

import {
  type Answer,
  type Dialect,
  encodeEvent,
  findShellTool,
  type Json,
  makeId,
  pieces,
  records,
  requireRecord,
  type Turn,
} from "./dialect.ts";
import type { Script } from "./script.ts";

type StreamEvent = { readonly type: string } & Record<string, unknown>;

/** How a shell command is called. */
interface Shell {
  readonly name: string;
  readonly input: (command: string) => Json;
  /** "code mode": the tool is one of this namespace, and takes JavaScript */
  readonly namespace?: string;
}

function findShell(body: Json, input: readonly Json[]): Shell | undefined {
  const functions = records(body.tools).filter(({ type }) => type === "function");
  const shell = findShellTool(functions.map(({ name }) => name));
  if (shell !== undefined) return shell;
  for (const item of input.filter(({ type }) => type === "additional_tools")) {
    for (const namespace of records(item.tools)) {
      const offered = records(namespace.tools).some(({ type, name }) => type === "custom" && name === "exec");
      if (offered) return { name: "exec", input: () => ({}), namespace: String(namespace.name) };
    }
  }
  return undefined;
}

const USAGE = {
  input_tokens: 100,
  input_tokens_details: { cached_tokens: 0 },
  output_tokens: 20,
  output_tokens_details: { reasoning_tokens: 0 },
  total_tokens: 120,
} as const;

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

function callEvents(outputIndex: number, call: { tool: Shell; command: string }): {
  item: unknown;
  events: StreamEvent[];
} {
  const isCode = call.tool.namespace !== undefined;
  const id = makeId(isCode ? "ctc" : "fc");
  const field = isCode ? "input" : "arguments";
  const value = isCode ? codeFor(call.command) : JSON.stringify(call.tool.input(call.command));
  const item = {
    id,
    type: isCode ? "custom_tool_call" : "function_call",
    status: "completed",
    call_id: makeId("call"),
    name: call.tool.name,
    ...(isCode ? { namespace: call.tool.namespace } : {}),
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

function answer(model: string, shell: Shell | undefined, turn: number, script: Script): Answer {
  const response = { id: makeId("resp"), object: "response", created_at: 0, model };
  const command = script.commands[turn];
  const parts = command !== undefined && shell !== undefined
    ? [messageEvents(0, `Running command ${turn + 1}.`), callEvents(1, { tool: shell, command })]
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
  const error = { code: "server_error", message: "The scripted model failed on purpose" };
  const failed = { id: makeId("resp"), status: "failed", error };
  return {
    events: events.map((event, index) => encodeEvent({ ...event, sequence_number: index })),
    failure: encodeEvent({ type: "response.failed", response: failed }),
    plain: completed,
  };
}

/** OpenAI's Responses. */
export const responses: Dialect = {
  pathEnd: "/responses",
  read(value: unknown): Turn {
    const body = requireRecord(value);
    const input = records(body.input);
    // A client may leave out the type of a message.
    const isUser = ({ type = "message", role }: Json): boolean => type === "message" && role === "user";
    const toolResultCount =
      input.slice(input.findLastIndex(isUser) + 1).filter(({ type }) =>
        type === "function_call_output" || type === "custom_tool_call_output"
      ).length;
    const model = typeof body.model === "string" ? body.model : "unknown";
    const shell = findShell(body, input);
    return {
      toolResultCount,
      isPlain: body.stream === false,
      answer: (script) => answer(model, shell, toolResultCount, script),
    };
  },
  error: (status, message) => ({
    error: { message, type: "scripted_error", param: null, code: `scripted_${status}` },
  }),
};
