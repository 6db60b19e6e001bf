/**
 * Anthropic's Messages protocol.
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

type Event = Json & { readonly type: string };

const USAGE = {
  input_tokens: 100,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: 0,
  output_tokens: 20,
};

function textBlock(index: number, text: string): Event[] {
  return [
    { type: "content_block_start", index, content_block: { type: "text", text: "" } },
    ...pieces(text).map((part) => ({
      type: "content_block_delta",
      index,
      delta: { type: "text_delta", text: part },
    })),
    { type: "content_block_stop", index },
  ];
}

function callBlock(index: number, call: Json, input: string): Event[] {
  return [
    { type: "content_block_start", index, content_block: { ...call, input: {} } },
    ...pieces(input).map((part) => ({
      type: "content_block_delta",
      index,
      delta: { type: "input_json_delta", partial_json: part },
    })),
    { type: "content_block_stop", index },
  ];
}

function answer(body: Json, turn: number, script: Script): Answer {
  const shell = findShellTool(records(body.tools).map(({ name }) => name));
  const command = script.commands[turn];
  const isCall = command !== undefined && shell !== undefined;
  const text = isCall ? `Running command ${turn + 1}.` : script.finalText;
  const call = { type: "tool_use", id: makeId("toolu"), name: shell?.name };
  const input = isCall ? shell.input(command) : {};
  const stopReason = isCall ? "tool_use" : "end_turn";
  const message = {
    id: makeId("msg"),
    type: "message",
    role: "assistant",
    model: body.model,
    stop_sequence: null,
  };
  const events: Event[] = [
    {
      type: "message_start",
      message: { ...message, content: [], stop_reason: null, usage: { ...USAGE, output_tokens: 1 } },
    },
    { type: "ping" },
    ...textBlock(0, text),
    ...(isCall ? callBlock(1, call, JSON.stringify(input)) : []),
    {
      type: "message_delta",
      delta: { stop_reason: stopReason, stop_sequence: null },
      usage: { output_tokens: USAGE.output_tokens },
    },
    { type: "message_stop" },
  ];
  const content = [{ type: "text", text }, ...(isCall ? [{ ...call, input }] : [])];
  const error = { type: "overloaded_error", message: "The scripted model failed on purpose" };
  return {
    events: events.map(encodeEvent),
    failure: encodeEvent({ type: "error", error }),
    plain: { ...message, content, stop_reason: stopReason, usage: USAGE },
  };
}

/** A message of the user that is not only results of tools. */
function isUserText({ role, content }: Json): boolean {
  if (role !== "user") return false;
  return typeof content === "string" || !records(content).some(({ type }) => type === "tool_result");
}

/** Anthropic's Messages. */
export const messages: Dialect = {
  pathEnd: "/messages",
  read(value: unknown): Turn {
    const body = requireRecord(value);
    const all = records(body.messages);
    const since = all.slice(all.findLastIndex(isUserText) + 1);
    const toolResultCount = since.flatMap(({ content }) => records(content))
      .filter(({ type }) => type === "tool_result").length;
    return {
      toolResultCount,
      isPlain: body.stream !== true,
      answer: (script) => answer(body, toolResultCount, script),
    };
  },
  error: (status, message) => ({
    type: "error",
    error: { type: status === 401 ? "authentication_error" : "api_error", message },
  }),
};
