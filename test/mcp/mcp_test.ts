import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import type { CallToolResult, Progress } from "@modelcontextprotocol/sdk/types.js";
import { createApp } from "../../src/api/app.ts";
import { ApiClient } from "../../src/api/client.ts";
import { openTaskService, type TaskRunner } from "../../src/api/task_service.ts";
import { withMcp } from "../../src/local/mcp_app.ts";
import { oneToken } from "../../src/api/access.ts";
import { lostResult, type TaskResult } from "../../src/session/task.ts";
import { bounded } from "../../src/mcp/tool.ts";
import { testWithNativeGuest, withNativeGuest } from "../support/native_guest.ts";
import { sandboxCommand } from "../support/sandbox_cli.ts";
import { fakeMaker } from "../support/session_maker.ts";

const TOKEN = "mcp-test-token";
const PATCH = "diff --git a/hello.txt b/hello.txt\n+hello\n";

/** Says something, writes a patch, and ends as its prompt says. */
const runner: TaskRunner = async ({ request, folder, onEvent, signal }) => {
  onEvent({ type: "phase", phase: "prepare", ms: 1 });
  const at = new Date().toISOString();
  onEvent({ type: "agent", event: { v: 1, at, type: "message", text: `At work: ${request.prompt}` } });
  if (request.prompt === "wait") {
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    return lostResult("Task was cancelled", "cancelled");
  }
  await Deno.writeTextFile(`${folder}/changes.patch`, PATCH);
  const isGood = request.prompt !== "fail";
  return {
    ...lostResult(isGood ? "Agent completed its turn" : "Agent gave up", isGood ? "done" : "agent_failed"),
    exitCode: isGood ? 0 : 1,
    finalMessage: "Wrote hello.txt",
    changes: {
      paths: [{ path: "hello.txt", kind: "added" }],
      totalCount: 1,
      ignoredCount: 0,
      refusedCount: 0,
    },
  } as unknown as TaskResult;
};

interface Setup {
  readonly baseUrl: string;
  readonly client: ApiClient;
  readonly guestFolder: string;
}

async function withServer(use: (setup: Setup) => Promise<void>): Promise<void> {
  await withNativeGuest(async (guest, guestFolder) => {
    const stateDir = await Deno.makeTempDir();
    const { make, prepare } = fakeMaker(guest);
    const service = await openTaskService({ stateDir, runner, makeSession: make, prepare });
    const access = oneToken(TOKEN);
    const app = withMcp(createApp({ service, access }), access);
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request) => app.fetch(request),
    );
    const baseUrl = `http://127.0.0.1:${server.addr.port}`;
    try {
      await use({ baseUrl, client: new ApiClient({ baseUrl, token: TOKEN }), guestFolder });
    } finally {
      await service.close();
      await server.shutdown();
      await Deno.remove(stateDir, { recursive: true });
    }
  });
}

async function overHttp(baseUrl: string, token = TOKEN): Promise<Client> {
  const client = new Client({ name: "test", version: "1" });
  const transport = new StreamableHTTPClientTransport(new URL(`${baseUrl}/mcp`), {
    requestInit: { headers: { authorization: `Bearer ${token}` } },
  });
  await client.connect(transport as Parameters<Client["connect"]>[0]);
  return client;
}

async function overStdio(baseUrl: string): Promise<Client> {
  const client = new Client({ name: "test", version: "1" });
  const [command = "", ...args] = [...sandboxCommand("mcp"), "--server", baseUrl, "--token", TOKEN];
  await client.connect(
    new StdioClientTransport({ command, args, env: Deno.env.toObject(), stderr: "inherit" }),
  );
  return client;
}

/** What a tool answered: its facts, or the text of its error. */
async function call(
  client: Client,
  name: string,
  args: Record<string, unknown>,
  options: Parameters<Client["callTool"]>[2] = {},
): Promise<{ facts: Record<string, unknown>; isError: boolean; text: string }> {
  const result = await client.callTool({ name, arguments: args }, undefined, options) as CallToolResult;
  const [content] = result.content;
  const text = content?.type === "text" ? content.text : "";
  return { facts: result.structuredContent ?? {}, isError: result.isError === true, text };
}

const TOOLS = [
  "create_session",
  "exec",
  "list_sessions",
  "read_file",
  "remove_session",
  "run_task",
  "task_result",
  "write_file",
];

async function checkTasks(client: Client): Promise<void> {
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool: { name: string }) => tool.name).sort(), TOOLS);
  for (const { name, annotations, inputSchema } of tools) {
    assert.equal(typeof annotations?.readOnlyHint, "boolean", name);
    assert.equal(inputSchema.type, "object");
  }
  const told: string[] = [];
  const onprogress = ({ message }: Progress): void => void told.push(message ?? "");
  const done = await call(client, "run_task", { agent: "codex", prompt: "greet" }, { onprogress });
  assert.equal(done.isError, false, done.text);
  assert.deepEqual([done.facts.state, done.facts.finalMessage, done.facts.changedFiles, done.facts.patch], [
    "succeeded",
    "Wrote hello.txt",
    ["hello.txt"],
    PATCH,
  ]);
  assert.ok(told.includes("At work: greet"), told.join(", "));
  const failed = await call(client, "run_task", { agent: "codex", prompt: "fail" });
  assert.deepEqual([failed.isError, failed.facts.state, failed.facts.cause], [
    true,
    "failed",
    "Agent gave up",
  ]);
  const { facts: { id } } = await call(client, "run_task", { agent: "codex", prompt: "greet", wait: false });
  for (;;) {
    const { facts } = await call(client, "task_result", { id });
    if (facts.state === "succeeded") break;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function checkSessions(client: Client, guestFolder: string): Promise<void> {
  const { facts, isError, text } = await call(client, "create_session", { ttlMinutes: 5 });
  assert.deepEqual([isError, facts.state], [false, "running"], text);
  const sessionId = facts.id;
  const inside = { sessionId, user: "root", cwd: "/" };
  const ran = await call(client, "exec", { ...inside, command: "echo out; echo err >&2; exit 3" });
  assert.deepEqual([ran.facts.exitCode, ran.facts.stdout, ran.facts.stderr], [3, "out\n", "err\n"]);
  const long = await call(client, "exec", { ...inside, command: "head -c 2000000 /dev/zero | tr '\\0' x" });
  assert.ok(long.facts.truncated === true && long.text.length < 100_000);
  const path = `${guestFolder}/a b.txt`;
  await call(client, "write_file", { sessionId, path, content: "grüß\n", executable: true });
  assert.equal(await Deno.readTextFile(path), "grüß\n");
  assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o755);
  assert.deepEqual((await call(client, "read_file", { sessionId, path })).facts, {
    content: "grüß\n",
    encoding: "text",
    truncated: false,
  });
  assert.equal((await call(client, "read_file", { sessionId, path, maxBytes: 3 })).facts.truncated, true);
  await call(client, "write_file", { sessionId, path, content: "/wAB", encoding: "base64" });
  assert.deepEqual((await call(client, "read_file", { sessionId, path })).facts.encoding, "base64");
  const missing = await call(client, "read_file", { sessionId, path: "/no/such/file" });
  assert.deepEqual(
    [missing.isError, /no\/such\/file.*\(guest\)/.test(missing.text)],
    [true, true],
    missing.text,
  );
  const bad = await call(client, "read_file", { sessionId, path: "relative" });
  assert.deepEqual([bad.isError, /absolute/.test(bad.text)], [true, true]);
  assert.equal(((await call(client, "list_sessions", {})).facts.sessions as unknown[]).length, 1);
  await call(client, "remove_session", { sessionId });
  const gone = await call(client, "exec", { ...inside, command: "true" });
  assert.deepEqual(
    [gone.isError, /There is no session .*\(not_found\)/.test(gone.text)],
    [true, true],
    gone.text,
  );
}

const testServer = (name: string, use: (setup: Setup) => Promise<void>): void =>
  testWithNativeGuest(name, () => withServer(use));

testServer("over HTTP, tools run tasks and sessions, with progress", async ({ baseUrl, guestFolder }) => {
  const client = await overHttp(baseUrl);
  await checkTasks(client);
  await checkSessions(client, guestFolder);
  await client.close();
});

testServer("over stdio, sandbox mcp has the same tools", async ({ baseUrl, guestFolder }) => {
  const client = await overStdio(baseUrl);
  await checkTasks(client);
  await checkSessions(client, guestFolder);
  await client.close();
});

testServer("a call that is cancelled cancels its task", async ({ baseUrl, client: api }) => {
  const client = await overStdio(baseUrl);
  const abort = new AbortController();
  const options = { signal: abort.signal, onprogress: () => {} };
  const called = call(client, "run_task", { agent: "codex", prompt: "wait" }, options);
  const rejected = assert.rejects(called);
  const reaches = async (state: string): Promise<void> => {
    const deadline = performance.now() + 30_000;
    while ((await api.tasks()).tasks[0]?.state !== state) {
      assert.ok(performance.now() < deadline, `the task is not ${state}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  await reaches("running");
  abort.abort();
  await rejected;
  await reaches("cancelled");
  await client.close();
});

testServer("without the server's token nothing is answered", async ({ baseUrl }) => {
  await assert.rejects(overHttp(baseUrl, "wrong"), /401/);
  const response = await fetch(`${baseUrl}/mcp`, { method: "POST", body: "{}" });
  assert.equal(response.status, 401);
  await response.body?.cancel();
});

Deno.test("a long text keeps its beginning and its end", () => {
  assert.equal(bounded("short"), "short");
  const text = bounded(`begin ${"x".repeat(100_000)} end`, 1000);
  assert.match(text, /^begin x+\n… 99010 characters left out …\nx+ end$/);
});
