import assert from "node:assert/strict";
import type { AgentEvent } from "../../agent-images/agent_spec.ts";
import { spec } from "../../agent-images/claude-code/agent.ts";

function events(...lines: readonly unknown[]): AgentEvent[] {
  const parser = spec.newParser();
  return lines.flatMap((line) => parser.line(typeof line === "string" ? line : JSON.stringify(line)));
}

const assistant = (...content: unknown[]): unknown => ({ type: "assistant", message: { content } });
const user = (...content: unknown[]): unknown => ({ type: "user", message: { content } });
const USAGE = {
  input_tokens: 10,
  cache_creation_input_tokens: 20,
  cache_read_input_tokens: 300,
  output_tokens: 5,
};

Deno.test("Claude Code's run with one command gives its message, call, result, usage and end", () => {
  const input = { command: "date", description: "Looks at the clock" };
  assert.deepEqual(
    events(
      { type: "system", subtype: "init" },
      assistant({ type: "thinking", thinking: "A clock.", signature: "x" }),
      assistant({ type: "text", text: "I will look." }),
      assistant({ type: "tool_use", id: "t1", name: "Bash", input }),
      user({ type: "tool_result", tool_use_id: "t1", content: "Sun", is_error: false }),
      { duration_ms: 1, type: "result", subtype: "success", is_error: false, result: "Done", usage: USAGE },
    ),
    [
      { type: "reasoning", text: "A clock." },
      { type: "message", text: "I will look." },
      { type: "tool_call", id: "t1", name: "Bash", command: true, input: "date" },
      { type: "tool_result", id: "t1", output: "Sun", exitCode: 0, ok: true },
      { type: "usage", inputTokens: 330, cachedTokens: 300, outputTokens: 5 },
      { type: "done" },
    ],
  );
});

Deno.test("Claude Code's failed command has its exit code, and a written file is a change once it is written", () => {
  const write = (id: string): unknown =>
    assistant({ type: "tool_use", id, name: "Write", input: { file_path: "/workspace/a", content: "x" } });
  assert.deepEqual(
    events(
      user({ type: "tool_result", tool_use_id: "t1", content: "Exit code 7\nout", is_error: true }),
      write("t2"),
      user({
        type: "tool_result",
        tool_use_id: "t2",
        content: [{ type: "text", text: "no" }],
        is_error: true,
      }),
      write("t3"),
      user({ type: "tool_result", tool_use_id: "t3", content: "written" }),
    ).filter(({ type }) => type !== "tool_call"),
    [
      { type: "tool_result", id: "t1", output: "Exit code 7\nout", exitCode: 7, ok: false },
      { type: "tool_result", id: "t2", output: "no", exitCode: null, ok: false },
      { type: "tool_result", id: "t3", output: "written", exitCode: 0, ok: true },
      { type: "file_change", paths: ["/workspace/a"] },
    ],
  );
});

Deno.test("Claude Code's result is judged by is_error, not by its subtype", () => {
  const last = events({
    type: "result",
    subtype: "success",
    is_error: true,
    result: "API Error: 401",
    terminal_reason: "api_error",
  }).at(-1);
  assert.deepEqual(last, { type: "error", message: "API Error: 401", fatal: true });
});

Deno.test("Claude Code's output of any kind gives no error", () => {
  const odd = [null, 1, [], { type: "assistant" }, { type: "assistant", message: { content: [1, null] } }];
  assert.deepEqual(events("plain text", "{", ...odd, { type: "system", subtype: "ui_invalidate" }), []);
  assert.equal(events({ type: "result" }).length, 2);
});

Deno.test("Claude Code's command has a placeholder for a key, and the prompt last", () => {
  const { argv, env } = spec.command({ prompt: "--help", gatewayUrl: "http://g", timeoutMs: 1, model: "m" });
  assert.deepEqual(argv.slice(-2), ["--", "--help"]);
  assert.equal(env.ANTHROPIC_BASE_URL, "http://g");
  assert.equal(env.ANTHROPIC_MODEL, "m");
  assert.equal(env.CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC, "1");
});
