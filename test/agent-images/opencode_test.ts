import assert from "node:assert/strict";
import type { AgentEvent } from "../../agent-images/agent_spec.ts";
import { spec } from "../../agent-images/opencode/agent.ts";

function events(...lines: readonly unknown[]): AgentEvent[] {
  const parser = spec.newParser();
  return lines.flatMap((line) => parser.line(typeof line === "string" ? line : JSON.stringify(line)));
}

/** Lines of a real run whose command failed, without ids that say nothing. */
const RUN = [
  `{"type":"step_start","timestamp":1795385082804,"sessionID":"ses_d","part":{"id":"prt_1","type":"step-start"}}`,
  `{"type":"text","timestamp":1795385082805,"sessionID":"ses_d","part":{"id":"prt_2","type":"text","text":"Running command 1.","time":{"start":1795385082756,"end":1795385082761},"metadata":{"openai":{"itemId":"msg_00000010"}}}}`,
  `{"type":"tool_use","timestamp":1795385083190,"sessionID":"ses_d","part":{"type":"tool","tool":"bash","callID":"call_00000012","state":{"status":"completed","input":{"command":"echo x >&2; exit 7","description":"Runs the command"},"output":"x\\n","metadata":{"output":"x\\n","exit":7,"truncated":false},"title":"echo x >&2; exit 7","time":{"start":1795385082782,"end":1795385083140}},"metadata":{"openai":{"itemId":"fc_00000011"}},"id":"prt_3"}}`,
  `{"type":"step_finish","timestamp":1795385083193,"sessionID":"ses_d","part":{"id":"prt_4","reason":"tool-calls","type":"step-finish","tokens":{"total":120,"input":100,"output":20,"reasoning":0,"cache":{"write":0,"read":0}},"cost":0}}`,
  `{"type":"text","timestamp":1795385083289,"sessionID":"ses_d","part":{"id":"prt_6","type":"text","text":"ok","time":{"start":1795385083252,"end":1795385083256}}}`,
  `{"type":"step_finish","timestamp":1795385083289,"sessionID":"ses_d","part":{"id":"prt_7","reason":"stop","type":"step-finish","tokens":{"total":120,"input":100,"output":20,"reasoning":0,"cache":{"write":0,"read":5}},"cost":0}}`,
];

Deno.test("OpenCode's run gives its messages, its call with result, exit code and time, and tokens that add up", () => {
  assert.deepEqual(events(...RUN), [
    { type: "message", text: "Running command 1." },
    { type: "tool_call", id: "call_00000012", name: "bash", command: true, input: "echo x >&2; exit 7" },
    { type: "tool_result", id: "call_00000012", output: "x\n", exitCode: 7, ok: false, durationMs: 358 },
    { type: "usage", inputTokens: 100, cachedTokens: 0, outputTokens: 20 },
    { type: "message", text: "ok" },
    { type: "usage", inputTokens: 205, cachedTokens: 5, outputTokens: 40 },
    { type: "done" },
  ]);
});

Deno.test("OpenCode's error is fatal, with the provider's words and status", () => {
  const error =
    `{"type":"error","timestamp":1795385087150,"sessionID":"ses_d","error":{"name":"APIError","data":{"message":"Incorrect API key provided (scripted)","statusCode":401,"isRetryable":false}}}`;
  assert.deepEqual(events(error), [{
    type: "error",
    message: "Incorrect API key provided (scripted) (status 401)",
    fatal: true,
  }]);
});

Deno.test("OpenCode's answer that ended early is not the end of its turn", () => {
  const kinds = events({ type: "step_finish", part: { reason: "unknown", tokens: {} } }).map(({ type }) =>
    type
  );
  assert.deepEqual(kinds, ["usage", "error"]);
});

Deno.test("OpenCode's written file is a change, once it is written", () => {
  const write = (status: string): unknown => ({
    type: "tool_use",
    part: {
      tool: "write",
      callID: "c",
      state: { status, input: { filePath: "/workspace/a", content: "x" } },
    },
  });
  assert.deepEqual(events(write("completed")).at(-1), { type: "file_change", paths: ["/workspace/a"] });
  assert.equal(events(write("error")).at(-1)?.type, "tool_result");
});

Deno.test("OpenCode's output of any kind gives no error", () => {
  const odd = [null, 1, [], {}, { type: "text" }, { type: "reasoning", part: [] }];
  assert.deepEqual(events("plain text", "{", ...odd), []);
  assert.equal(events({ type: "tool_use" }, { type: "step_finish" }, { type: "error" }).length, 5);
});

Deno.test("OpenCode's command has its configuration with a placeholder for a key, and the prompt last", () => {
  const { argv, env } = spec.command({ prompt: "--help", gatewayUrl: "http://g", timeoutMs: 1, model: "m" });
  assert.deepEqual(argv.slice(-2), ["--", "--help"]);
  const config = JSON.parse(env.OPENCODE_CONFIG_CONTENT ?? "");
  assert.equal(config.provider.openai.options.baseURL, "http://g");
  assert.equal(config.model, "openai/m");
  assert.equal(config.permission, "allow");
});
