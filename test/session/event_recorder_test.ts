import assert from "node:assert/strict";
import { type AgentEvent, type RecordedEvent, recordedEventSchema } from "../../agent-images/agent_event.ts";
import { spec as codex } from "../../agent-images/codex/agent.ts";
import { EventRecorder } from "../../src/session/event_recorder.ts";

/** Records events, each 100 ms after the one before, and gives the lines of the file; all have the documented form. */
function record(events: readonly AgentEvent[]): { lines: RecordedEvent[]; truncated: boolean } {
  const folder = Deno.makeTempDirSync();
  try {
    let now = Date.UTC(2026, 0, 1);
    const told: RecordedEvent[] = [];
    using recorder = new EventRecorder({
      path: `${folder}/t.jsonl`,
      onEvent: (event) => told.push(event),
      now: () => now += 100,
    });
    for (const event of events) recorder.add(event);
    const text = Deno.readTextFileSync(`${folder}/t.jsonl`);
    const lines = text.split("\n").slice(0, -1).map((line) => recordedEventSchema.parse(JSON.parse(line)));
    assert.deepEqual(lines, told);
    assert.equal(recorder.facts.lineCount, lines.length);
    return { lines, truncated: recorder.facts.truncated };
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("EventRecorder gives each event its version and time, and a result the time since its call", () => {
  const { lines } = record([
    { type: "reasoning", text: "hm" },
    { type: "tool_call", id: "a", name: "shell", command: true, input: "ls" },
    { type: "message", text: "wait" },
    { type: "tool_result", id: "a", output: "", exitCode: 0, ok: true },
    { type: "file_change", paths: ["x"] },
    { type: "usage", inputTokens: 1, cachedTokens: 0, outputTokens: 2 },
    { type: "error", message: "no", fatal: false },
    { type: "done" },
  ]);
  assert.equal(lines.length, 8);
  assert.ok(lines.every((line) => line.v === 1));
  assert.equal(lines[0]?.at, "2026-01-01T00:00:00.100Z");
  assert.equal(lines[3]?.type === "tool_result" && lines[3].durationMs, 200);
});

Deno.test("EventRecorder keeps the time that an agent measured itself", () => {
  const { lines } = record([
    { type: "tool_call", id: "a", name: "shell", command: true, input: "ls" },
    { type: "tool_result", id: "a", output: "", exitCode: 0, ok: true, durationMs: 7 },
  ]);
  assert.equal(lines[1]?.type === "tool_result" && lines[1].durationMs, 7);
});

Deno.test("EventRecorder gives a result without a call one", () => {
  const { lines } = record([{ type: "tool_result", id: "a", output: "x", exitCode: null, ok: true }]);
  assert.deepEqual(lines.map((line) => [line.type, "id" in line ? line.id : ""]), [
    ["tool_call", "a"],
    ["tool_result", "a"],
  ]);
});

Deno.test("EventRecorder cuts what is too long, and says so", () => {
  const text = "é".repeat(300 * 1024);
  const { lines } = record([
    { type: "message", text },
    { type: "tool_call", id: text, name: text, command: false, input: text },
    { type: "tool_result", id: text, output: text, exitCode: null, ok: true },
    { type: "file_change", paths: Array(5000).fill("p") },
  ]);
  assert.ok(lines.slice(0, 3).every((line) => "truncated" in line && line.truncated === true));
  const [, call, result, change] = lines;
  assert.equal(call?.type === "tool_call" && result?.type === "tool_result" && call.id === result.id, true);
  assert.equal(change?.type === "file_change" && change.paths.length, 1000);
});

Deno.test("EventRecorder stops at its limit, and keeps room for the end", () => {
  const message = { type: "message", text: "x".repeat(256 * 1024) } as const;
  const { lines, truncated } = record([...Array<AgentEvent>(300).fill(message), { type: "done" }]);
  assert.equal(truncated, true);
  assert.equal(lines.length, 256);
  assert.equal(lines.at(-1)?.type, "done");
  const endless = record(
    Array<AgentEvent>(20_000).fill({
      type: "error",
      message: "e".repeat(4000),
      fatal: true,
    }),
  );
  assert.ok(endless.truncated && endless.lines.length < 18_000);
});

Deno.test("EventRecorder takes whatever a parser makes of hostile lines", () => {
  const parser = codex.newParser();
  const item = {
    id: "\ud800\0\x1b[2J",
    type: "command_execution",
    command: "\x1b]0;x\x07",
    exit_code: 1e300,
  };
  const events = [
    parser.line(JSON.stringify({ type: "item.started", item })),
    parser.line(JSON.stringify({ type: "item.completed", item })),
    parser.line(
      JSON.stringify({ type: "turn.completed", usage: { input_tokens: -1, output_tokens: 1e308 } }),
    ),
  ].flat();
  assert.equal(record(events).lines.length, 4);
});
