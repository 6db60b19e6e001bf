import assert from "node:assert/strict";
import type { AgentEvent } from "../../agent-images/agent_spec.ts";
import { spec } from "../../agent-images/openclaw/agent.ts";

function eventsOf(text: string): AgentEvent[] {
  const parser = spec.newParser();
  return [...text.split("\n").flatMap((line) => parser.line(line)), ...parser.end(0)];
}

Deno.test("OpenClaw's object, over many lines, gives its message, usage and end", () => {
  const usage = { input: 100, output: 20, cacheRead: 5, cacheWrite: 1, total: 126 };
  const result = { ok: true, status: "ok", final: "Done.", payloads: [{ text: "Done." }], usage };
  assert.deepEqual(eventsOf(`starting\n${JSON.stringify(result, null, 2)}\n`), [
    { type: "message", text: "Done." },
    { type: "usage", inputTokens: 106, cachedTokens: 5, outputTokens: 20 },
    { type: "done" },
  ]);
});

Deno.test("OpenClaw's failure is fatal, with its reason", () => {
  const result = { ok: false, status: "timeout", final: "", error: { message: "took too long" } };
  assert.deepEqual(eventsOf(JSON.stringify(result)).at(-1), {
    type: "error",
    message: "took too long",
    fatal: true,
  });
  assert.deepEqual(eventsOf("no JSON at all"), []);
});

Deno.test("OpenClaw gets its configuration as a file: the gateway, a placeholder for a key, the model", () => {
  const { argv } = spec.command({
    prompt: "do it",
    gatewayUrl: "http://172.30.0.1:8080",
    timeoutMs: 90_500,
    model: "m",
  });
  const config = JSON.parse(argv[4] ?? "");
  assert.equal(config.models.providers.paddock.baseUrl, "http://172.30.0.1:8080");
  assert.equal(config.agents.defaults.model.primary, "paddock/m");
  assert.equal(argv[argv.indexOf("--timeout") + 1], "91");
  assert.deepEqual(argv.slice(-2), ["--", "do it"]);
});

Deno.test("OpenClaw's lock has a hash for every package, and names no registry", async () => {
  const lock = JSON.parse(await Deno.readTextFile(`${spec.npmTree?.folder}package-lock.json`));
  type Entry = { readonly integrity?: string; readonly resolved?: string; readonly inBundle?: boolean };
  const packages = Object.entries(lock.packages as Record<string, Entry>).filter(([path]) => path !== "");
  assert.ok(packages.length > 300);
  // What is in another package's tarball has that one's hash.
  assert.deepEqual(packages.filter(([, entry]) => !entry.integrity && !entry.inBundle), []);
  assert.deepEqual(packages.filter(([, entry]) => entry.resolved !== undefined), []);
  assert.equal(lock.packages["node_modules/openclaw"].version, spec.version);
});

Deno.test("OpenClaw's requests tell what its model said and what the tools gave, once", () => {
  const parser = spec.newTrafficParser?.();
  const user = { role: "user", content: [{ type: "input_text", text: "do it" }] };
  const said = {
    type: "message",
    role: "assistant",
    id: "m1",
    content: [{ type: "output_text", text: "I look." }],
  };
  const call = { type: "function_call", call_id: "c1", name: "exec", arguments: '{"command":"date"}' };
  const result = { type: "function_call_output", call_id: "c1", output: "Sun" };
  assert.deepEqual(parser?.request({ input: [user] }), []);
  const input = [{ ...call, call_id: "old" }, user, said, call, result];
  assert.deepEqual(parser?.request({ input }), [
    { type: "message", text: "I look." },
    { type: "tool_call", id: "c1", name: "exec", command: true, input: "date" },
    { type: "tool_result", id: "c1", output: "Sun", exitCode: 0, ok: true },
  ]);
  assert.deepEqual(parser?.request({ input }), []);
  for (const odd of [undefined, null, 7, { input: "text" }, { input: [null, 1, {}] }]) {
    assert.deepEqual(parser?.request(odd), []);
  }
});

Deno.test("OpenClaw's results have the exit code that it writes below a command's output, and its files are changes", () => {
  const parser = spec.newTrafficParser?.();
  const call = (id: string, name: string, args: unknown): unknown => ({
    type: "function_call",
    call_id: id,
    name,
    arguments: JSON.stringify(args),
  });
  const result = (id: string, output: string): unknown => ({
    type: "function_call_output",
    call_id: id,
    output,
  });
  const input = [
    { role: "user", content: "do it" },
    { type: "reasoning", id: "rs_1", summary: [{ type: "summary_text", text: "Try it." }] },
    call("c1", "exec", { command: "exit 7" }),
    result("c1", "out\nerr\n\n(Command exited with code 7)"),
    call("c2", "write", { path: "a.txt", content: "(Command exited with code 7)" }),
    result("c2", "Successfully wrote 4 bytes to a.txt"),
    call("c3", "read", { path: "b.txt" }),
    result("c3", "(Command exited with code 9)"),
  ];
  assert.deepEqual(parser?.request({ input }), [
    { type: "reasoning", text: "Try it." },
    { type: "tool_call", id: "c1", name: "exec", command: true, input: "exit 7" },
    {
      type: "tool_result",
      id: "c1",
      output: "out\nerr\n\n(Command exited with code 7)",
      exitCode: 7,
      ok: false,
    },
    { type: "tool_call", id: "c2", name: "write", command: false, input: "a.txt" },
    {
      type: "tool_result",
      id: "c2",
      output: "Successfully wrote 4 bytes to a.txt",
      exitCode: null,
      ok: true,
    },
    { type: "file_change", paths: ["a.txt"] },
    { type: "tool_call", id: "c3", name: "read", command: false, input: '{"path":"b.txt"}' },
    { type: "tool_result", id: "c3", output: "(Command exited with code 9)", exitCode: null, ok: true },
  ]);
  assert.deepEqual(parser?.request({ input }), []);
});
