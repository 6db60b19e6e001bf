/**
 * OpenAI's Chat Completions protocol.
 *
 * @module
 */

import {
  type Answer,
  type Dialect,
  findShellTool,
  isRecord,
  type Json,
  makeId,
  pieces,
  records,
  requireRecord,
  type Turn,
} from "./dialect.ts";
import type { Script } from "./script.ts";

const USAGE = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };

function encode(chunk: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`data: ${typeof chunk === "string" ? chunk : JSON.stringify(chunk)}\n\n`);
}

function answer(body: Json, turn: number, script: Script): Answer {
  const functions = records(body.tools).map((tool) =>
    isRecord(tool.function) ? tool.function.name : undefined
  );
  const shell = findShellTool(functions);
  const command = script.commands[turn];
  const isCall = command !== undefined && shell !== undefined;
  const content = isCall ? `Running command ${turn + 1}.` : script.finalText;
  const id = makeId("call");
  const call = isCall
    ? {
      id,
      type: "function",
      function: { name: shell.name, arguments: JSON.stringify(shell.input(command)) },
    }
    : undefined;
  const finish = isCall ? "tool_calls" : "stop";
  const base = { id: makeId("chatcmpl"), created: 0, model: body.model };
  const chunk = (delta: Json, finishReason: string | null = null): unknown => ({
    ...base,
    object: "chat.completion.chunk",
    choices: [{ index: 0, delta, finish_reason: finishReason }],
  });
  return {
    events: [
      chunk({ role: "assistant", content: "" }),
      ...pieces(content).map((part) => chunk({ content: part })),
      ...(call === undefined ? [] : [chunk({ tool_calls: [{ index: 0, ...call }] })]),
      chunk({}, finish),
      { ...base, object: "chat.completion.chunk", choices: [], usage: USAGE },
      "[DONE]",
    ].map(encode),
    failure: encode({ error: { message: "The scripted model failed on purpose", type: "server_error" } }),
    plain: {
      ...base,
      object: "chat.completion",
      choices: [{
        index: 0,
        message: { role: "assistant", content, ...(call && { tool_calls: [call] }) },
        finish_reason: finish,
      }],
      usage: USAGE,
    },
  };
}

/** OpenAI's Chat Completions. */
export const chat: Dialect = {
  pathEnd: "/chat/completions",
  read(value: unknown): Turn {
    const body = requireRecord(value);
    const all = records(body.messages);
    const since = all.slice(all.findLastIndex(({ role }) => role === "user") + 1);
    const toolResultCount = since.filter(({ role }) => role === "tool").length;
    return {
      toolResultCount,
      isPlain: body.stream !== true,
      answer: (script) => answer(body, toolResultCount, script),
    };
  },
  error: (status, message) => ({
    error: { message, type: "scripted_error", param: null, code: `scripted_${status}` },
  }),
};
