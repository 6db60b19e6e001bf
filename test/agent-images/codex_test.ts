import assert from "node:assert/strict";
import type { AgentEvent } from "../../agent-images/agent_spec.ts";
import { spec } from "../../agent-images/codex/agent.ts";

function events(...lines: readonly unknown[]): AgentEvent[] {
  const parser = spec.newParser();
  return lines.flatMap((line) => parser.line(typeof line === "string" ? line : JSON.stringify(line)));
}

Deno.test("a run with one command gives its message, call, result, usage and end", () => {
  const command = { id: "item_1", type: "command_execution", command: "/bin/bash -lc 'date'" };
  const usage = {
    input_tokens: 200,
    cached_input_tokens: 5,
    cache_write_input_tokens: 0,
    output_tokens: 40,
    reasoning_output_tokens: 0,
  };
  const seen = events(
    { type: "thread.started", thread_id: "01a2" },
    { type: "turn.started" },
    { type: "item.completed", item: { id: "item_r", type: "reasoning", text: "**Looking**" } },
    { type: "item.completed", item: { id: "item_0", type: "agent_message", text: "I will look." } },
    {
      type: "item.started",
      item: { ...command, aggregated_output: "", exit_code: null, status: "in_progress" },
    },
    {
      type: "item.completed",
      item: { ...command, aggregated_output: "Sun\n", exit_code: 0, status: "completed" },
    },
    { type: "turn.completed", usage },
  );
  assert.deepEqual(seen, [
    { type: "reasoning", text: "**Looking**" },
    { type: "message", text: "I will look." },
    { type: "tool_call", id: "item_1", name: "shell", command: true, input: "/bin/bash -lc 'date'" },
    { type: "tool_result", id: "item_1", output: "Sun\n", exitCode: 0, ok: true },
    { type: "usage", inputTokens: 200, cachedTokens: 5, outputTokens: 40 },
    { type: "done" },
  ]);
});

Deno.test("a command that fails is a result that is not ok, not an error", () => {
  const item = {
    id: "i",
    type: "command_execution",
    aggregated_output: "no\n",
    exit_code: 7,
    status: "failed",
  };
  assert.deepEqual(events({ type: "item.completed", item }), [
    { type: "tool_result", id: "i", output: "no\n", exitCode: 7, ok: false },
  ]);
});

Deno.test("file changes give the paths", () => {
  const item = {
    id: "i",
    type: "file_change",
    changes: [{ path: "/workspace/a", kind: "add" }, { path: "/workspace/b", kind: "delete" }],
    status: "completed",
  };
  assert.deepEqual(events({ type: "item.completed", item }), [{
    type: "file_change",
    paths: ["/workspace/a", "/workspace/b"],
  }]);
  assert.deepEqual(events({ type: "item.completed", item: { ...item, status: "failed" } }), [{
    type: "error",
    message: "Could not change /workspace/a, /workspace/b",
    fatal: false,
  }]);
  const search = { id: "w", type: "web_search", query: "deno" };
  assert.deepEqual(events({ type: "item.completed", item: search }).map((event) => event.type), [
    "tool_call",
    "tool_result",
  ]);
});

Deno.test("only turn.failed is fatal", () => {
  const seen = events(
    { type: "item.completed", item: { id: "i", type: "error", message: "Model metadata not found" } },
    { type: "error", message: "Reconnecting... 1/1 (unexpected status 401)" },
    { type: "turn.failed", error: { message: "unexpected status 401" } },
  );
  assert.deepEqual(seen, [
    { type: "error", message: "Model metadata not found", fatal: false },
    { type: "error", message: "Reconnecting... 1/1 (unexpected status 401)", fatal: false },
    { type: "error", message: "unexpected status 401", fatal: true },
  ]);
});

Deno.test("tool calls of other kinds are shown", () => {
  const item = {
    id: "i",
    type: "mcp_tool_call",
    tool: "search",
    arguments: { q: 1 },
    status: "completed",
    result: "found",
  };
  assert.deepEqual(events({ type: "item.started", item }, { type: "item.completed", item }), [
    { type: "tool_call", id: "i", name: "search", command: false, input: '{"q":1}' },
    { type: "tool_result", id: "i", output: "found", exitCode: null, ok: true },
  ]);
});

Deno.test("lines that are not Codex's events, or that lie about their types, give nothing that breaks", () => {
  assert.deepEqual(
    events("", "plain text", "[]", "null", "7", '"x"', "{", { type: "item.updated" }, { type: 5 }, {}),
    [],
  );
  const seen = events(
    { type: "item.completed" },
    { type: "item.completed", item: [] },
    { type: "item.completed", item: { type: "agent_message", text: 5 } },
    { type: "item.completed", item: { type: "file_change", changes: [null, 3, { path: {} }] } },
    { type: "turn.failed" },
    { type: "turn.completed", usage: { input_tokens: "many", output_tokens: null } },
  );
  assert.deepEqual(seen, [
    { type: "message", text: "" },
    { type: "file_change", paths: ["", "", ""] },
    { type: "error", message: "The turn failed", fatal: true },
    { type: "usage", inputTokens: 0, cachedTokens: 0, outputTokens: 0 },
    { type: "done" },
  ]);
});

Deno.test("the command quotes what the user gives and holds no key", () => {
  const { argv, env } = spec.command({
    prompt: '--help "x"',
    gatewayUrl: "http://172.30.0.1:8080",
    timeoutMs: 60_000,
    model: 'a"b',
  });
  assert.deepEqual(argv.slice(-2), ["--", '--help "x"']);
  assert.ok(argv.includes('model="a\\"b"'));
  assert.ok(argv.includes('model_providers.paddock.base_url="http://172.30.0.1:8080"'));
  assert.ok(!Object.keys(env).includes("OPENAI_API_KEY"));
});

Deno.test("the settings turn off what would call home or retry without end", () => {
  const [config] = spec.textFiles;
  for (
    const line of [
      "plugins = false",
      "unbounded_connection_retries = false",
      "check_for_update_on_startup = false",
      "[analytics]\nenabled = false",
    ]
  ) {
    assert.ok(config?.content.includes(line), line);
  }
});
