import assert from "node:assert/strict";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { startModelServer } from "./model_server/model_server.ts";
import { routePath, scriptPrefix } from "./model_server/script.ts";

const CODE_TOOLS = {
  type: "additional_tools",
  role: "developer",
  tools: [{ type: "namespace", name: "functions", tools: [{ type: "custom", name: "exec" }] }],
};
const USER = { type: "message", role: "user", content: [{ type: "input_text", text: "do it" }] };

async function ask(url: string, body: unknown, init: RequestInit = {}): Promise<Record<string, unknown>[]> {
  const response = await fetch(`${url}/v1/responses`, {
    method: "POST",
    body: JSON.stringify(body),
    ...init,
  });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return text.split("\n").filter((line) => line.startsWith("data: ")).map((line) =>
    JSON.parse(line.slice(6))
  );
}

const items = (events: Record<string, unknown>[]): Record<string, unknown>[] =>
  events.filter((event) => event.type === "response.output_item.done").map((event) =>
    event.item as Record<string, unknown>
  );

Deno.test("the model calls the shell through code mode where that is offered", async () => {
  const server = startModelServer();
  const events = await ask(server.url, { model: "m", input: [CODE_TOOLS, USER] });
  const call = items(events)[1];
  assert.deepEqual([call?.type, call?.name, call?.namespace], ["custom_tool_call", "exec", "functions"]);
  assert.match(String(call?.input), /^const r = await tools\.exec_command\(\{"cmd":".*hello\.txt/);
  assert.equal(events.at(-1)?.type, "response.completed");
  await server.close();
});

Deno.test("the model calls exec_command where that is a top-level tool, and then says its final text", async () => {
  const server = startModelServer({ script: { commands: ["ls"], finalText: "listed" } });
  const tools = [{ type: "function", name: "exec_command" }];
  const call = items(await ask(server.url, { model: "m", tools, input: [USER] }))[1];
  assert.deepEqual([call?.type, call?.arguments], ["function_call", '{"cmd":"ls"}']);
  const result = { type: "function_call_output", call_id: call?.call_id, output: "x" };
  const last = items(await ask(server.url, { model: "m", tools, input: [USER, call, result] }));
  assert.deepEqual(last.map((item) => (item.content as { text: string }[])[0]?.text), ["listed"]);
  await server.close();
});

Deno.test("the model reads compressed requests and logs them decoded", async () => {
  const server = startModelServer();
  const body = JSON.stringify({ model: "m", input: [USER] });
  for (const [encoding, bytes] of [["gzip", gzipSync(body)], ["zstd", zstdCompressSync(body)]] as const) {
    await ask(server.url, {}, { body: new Uint8Array(bytes), headers: { "content-encoding": encoding } });
    assert.equal(server.requests.at(-1)?.body, body);
  }
  await server.close();
});

Deno.test("the model answers 426 to a websocket and 401 to a wrong key", async () => {
  const server = startModelServer({ requiredKey: "k" });
  const url = `${server.url}/v1/responses`;
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: Number(new URL(url).port) });
  await conn.write(new TextEncoder().encode(
    "GET /v1/responses HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
  ));
  const answer = new Uint8Array(12);
  await conn.read(answer);
  conn.close();
  assert.equal(new TextDecoder().decode(answer), "HTTP/1.1 426");
  const wrong = await fetch(url, { method: "POST", body: "{}", headers: { authorization: "Bearer other" } });
  assert.equal(wrong.status, 401);
  await wrong.body?.cancel();
  await server.close();
});

Deno.test("a fault for the second turn leaves the first alone", async () => {
  const server = startModelServer();
  const url = `${server.url}/fault/second-500`;
  await ask(url, { model: "m", input: [CODE_TOOLS, USER] });
  const body = { model: "m", input: [CODE_TOOLS, USER, { type: "custom_tool_call_output" }] };
  const second = await fetch(`${url}/v1/responses`, { method: "POST", body: JSON.stringify(body) });
  assert.equal(second.status, 500);
  await second.body?.cancel();
  await server.close();
});

Deno.test("routePath() takes script and fault off the path", () => {
  const script = { commands: ["echo ä"], finalText: "f" };
  const routed = routePath(`/fault/cut${scriptPrefix(script)}/v1/responses`);
  assert.deepEqual(routed, { script, fault: { kind: "cut", status: 0, fromTurn: 0 }, path: "/v1/responses" });
  assert.throws(() => routePath("/fault/nonsense/v1"), RangeError);
});

async function post(url: string, body: unknown): Promise<Response> {
  return await fetch(url, { method: "POST", body: JSON.stringify(body), headers: { "x-api-key": "k" } });
}

/** The data of a stream's events. */
async function eventsOf(response: Response): Promise<Record<string, unknown>[]> {
  const lines = (await response.text()).split("\n").filter((line) => line.startsWith("data: {"));
  return lines.map((line) => JSON.parse(line.slice("data: ".length)));
}

Deno.test("the model speaks Messages: a call of Bash, then its final text, streamed or not", async () => {
  const server = startModelServer({ requiredKey: "k", script: { commands: ["ls"], finalText: "listed" } });
  const url = `${server.url}/v1/messages?beta=true`;
  const tools = [{ name: "Read" }, { name: "Bash" }];
  const user = { role: "user", content: "do it" };
  const events = await eventsOf(await post(url, { model: "m", stream: true, tools, messages: [user] }));
  const input = events.map(({ delta }) =>
    (delta as { partial_json?: string } | undefined)?.partial_json ?? ""
  );
  assert.equal(JSON.parse(input.join("")).command, "ls");
  assert.deepEqual([events[0]?.type, events.at(-1)?.type], ["message_start", "message_stop"]);
  const result = { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: "x" }] };
  const messages = [user, { role: "assistant", content: [] }, result];
  const plain = await (await post(url, { model: "m", tools, messages })).json();
  assert.deepEqual(plain.content, [{ type: "text", text: "listed" }]);
  await server.close();
});

Deno.test("the model speaks Chat Completions: a call of exec, then its final text", async () => {
  const server = startModelServer({ script: { commands: ["ls"], finalText: "listed" } });
  const url = `${server.url}/v1/chat/completions`;
  const tools = [{ type: "function", function: { name: "exec" } }];
  const user = { role: "user", content: "do it" };
  const events = await eventsOf(await post(url, { model: "m", stream: true, tools, messages: [user] }));
  const calls = events.flatMap((event) =>
    (event.choices as { delta: { tool_calls?: unknown[] } }[])
      .flatMap(({ delta }) => delta.tool_calls ?? [])
  ) as { function: { arguments: string } }[];
  assert.deepEqual(calls.map((call) => JSON.parse(call.function.arguments)), [{ command: "ls" }]);
  const messages = [user, { role: "assistant" }, { role: "tool", content: "x" }];
  const plain = await (await post(url, { model: "m", tools, messages })).json();
  assert.equal(plain.choices[0].message.content, "listed");
  await server.close();
});
