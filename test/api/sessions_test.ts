import assert from "node:assert/strict";
import { createApp } from "../../src/api/app.ts";
import { ApiClient, ApiError, type ExecChild } from "../../src/api/client.ts";
import { LOCAL_PRINCIPAL } from "../../src/api/principal.ts";
import { openTaskService, type TaskRunner } from "../../src/api/task_service.ts";
import { AgentTerminal } from "../../src/session/agent_terminal.ts";
import type { Session } from "../../src/session/session.ts";
import type { TaskResult } from "../../src/session/task.ts";
import { taskPolicy } from "../../src/session/task_policy.ts";
import { testWithNativeGuest, withNativeGuest } from "../support/native_guest.ts";

const TOKEN = "t";

interface Setup {
  readonly client: ApiClient;
  readonly stateDir: string;
  readonly guestFolder: string;
  /** submits a task that keeps its session; gives its id when the task is over */
  readonly keep: () => Promise<string>;
  /** ends the task that runs */
  readonly endTask: () => void;
  readonly isDisposed: () => boolean;
}

/** A server whose tasks have the real init, run natively, as their guest. */
async function withServer(use: (setup: Setup) => Promise<void>): Promise<void> {
  await withNativeGuest(async (guest, guestFolder) => {
    const stateDir = await Deno.makeTempDir();
    const ended = Promise.withResolvers<{ type: "stopped"; reason: "poweroff"; exits: object }>();
    const taskEnd = Promise.withResolvers<void>();
    let isDisposed = false;
    const runner: TaskRunner = async ({ id, spec, request, sessions, stateDir, onEvent }) => {
      const folder = `${stateDir}/sessions/${id}`;
      await Deno.mkdir(folder, { recursive: true });
      await Deno.writeTextFile(`${folder}/overlay.qcow2`, "a disk");
      const poweredOff = { type: "stopped", reason: "poweroff", exits: {} } as const;
      const session = {
        id,
        folder,
        guest,
        ended: ended.promise,
        consoleText: "the last words\n",
        powerOff: () => Promise.resolve(ended.resolve(poweredOff)),
        async [Symbol.asyncDispose](): Promise<void> {
          isDisposed = true;
          await Deno.remove(folder, { recursive: true });
        },
      } as unknown as Session;
      const terminal = new AgentTerminal(
        { argv: ["/bin/sh", "-c", "echo agent on a $(stty size) terminal"], env: { PATH: "/usr/bin:/bin" } },
        (command) => guest.exec({ ...command, user: "root", cwd: "/" }),
      );
      const policy = taskPolicy(request);
      const facts = {
        version: 1,
        id,
        agent: spec.name,
        memoryMib: 1,
        cpus: 1,
        createdAt: "now",
        imageKey: "k",
      } as const;
      const held = sessions.add({ session, spec, facts, policy, terminal });
      onEvent({ type: "terminal", sessionId: id });
      if (request.keep) await sessions.keep(id);
      else {
        await taskEnd.promise;
        held[Symbol.dispose]();
        await session[Symbol.asyncDispose]();
      }
      return { outcome: "done" } as unknown as TaskResult;
    };
    const service = await openTaskService({ stateDir, runner });
    const app = createApp({ service, token: TOKEN });
    const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
    const client = new ApiClient({ baseUrl: `http://127.0.0.1:${server.addr.port}`, token: TOKEN });
    const keep = async (): Promise<string> => {
      const { id } = await client.submit({ agent: "codex", prompt: "p", keep: true });
      while ((await client.task(id)).endedAt === null) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return id;
    };
    try {
      const endTask = (): void => taskEnd.resolve();
      await use({ client, stateDir, guestFolder, keep, endTask, isDisposed: () => isDisposed });
    } finally {
      taskEnd.resolve();
      await service.close();
      await server.shutdown();
      await Deno.remove(stateDir, { recursive: true });
    }
  });
}

async function sessionIsUp(client: ApiClient): Promise<void> {
  while ((await client.sessions()).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

const testSessions = (name: string, use: (setup: Setup) => Promise<void>): void =>
  testWithNativeGuest(name, () => withServer(use));

async function outcome(child: ExecChild): Promise<{ stdout: string; stderr: string; code: number }> {
  const text = (stream: ReadableStream<Uint8Array>): Promise<string> =>
    new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).text();
  const [stdout, stderr, { code }] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    child.status,
  ]);
  return { stdout, stderr, code };
}

const AS_ROOT = { user: "root", cwd: "/" } as const;
const isError = (status: number, pattern: RegExp) => (error: unknown): boolean =>
  error instanceof ApiError && error.status === status && pattern.test(error.message);

testSessions(
  "a command's streams, its stdin and its exit code come over the API",
  async ({ client, keep }) => {
    const id = await keep();
    const child = client.exec(id, {
      ...AS_ROOT,
      argv: ["sh", "-c", "wc -c; echo err >&2; exit 9"],
      stdin: true,
    });
    const writer = child.stdin.getWriter();
    for (let sent = 0; sent < 30; sent++) await writer.write(new Uint8Array(100_000));
    await writer.close();
    assert.deepEqual(await outcome(child), { stdout: "3000000\n", stderr: "err\n", code: 9 });
    const killed = client.exec(id, { ...AS_ROOT, argv: ["sh", "-c", "echo up; exec sleep 100"] });
    const output = outcome(killed);
    killed.signal(15);
    assert.equal((await output).code, 143);
  },
);

testSessions(
  "a command has its session's variables, and those that were asked for",
  async ({ client, keep }) => {
    const id = await keep();
    const script = 'echo "$HOME $USER $A $PATH"; id -u';
    const { stdout } = await outcome(
      client.exec(id, { ...AS_ROOT, argv: ["sh", "-c", script], env: { A: "1" } }),
    );
    assert.match(stdout, /^\/root root 1 \/usr\/local\/bin:.*\n0\n$/);
  },
);

testSessions("the agent takes one terminal, and no second one", async ({ client, endTask }) => {
  const { id } = await client.submit({ agent: "codex", interactive: true });
  await sessionIsUp(client);
  const size = { rows: 7, cols: 99 };
  const first = client.exec(id, { agent: true, terminal: size });
  assert.equal((await outcome(first)).stdout, "agent on a 7 99 terminal\r\n");
  await assert.rejects(client.exec(id, { agent: true, terminal: size }).status, /has a terminal already/);
  await assert.rejects(client.exec(id, { agent: true }).status, /needs a terminal/);
  endTask();
});

testSessions(
  "a port of the guest is reached through the API, and a closed one ends at once",
  async ({ client, keep }) => {
    const id = await keep();
    using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    void (async (): Promise<void> => {
      for await (const conn of server) void conn.readable.pipeTo(conn.writable).catch(() => {});
    })();
    const through = async (port: number, sent: Uint8Array): Promise<number> => {
      using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const accepted = listener.accept().then((conn) => client.forward(id, port, conn));
      using conn = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
      const writing = (async (): Promise<void> => {
        for (let at = 0; at < sent.length;) at += await conn.write(sent.subarray(at));
        await conn.closeWrite();
      })().catch(() => {});
      let byteCount = 0;
      const buffer = new Uint8Array(65536);
      for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
        byteCount += count;
      }
      await Promise.all([writing, accepted]);
      return byteCount;
    };
    assert.equal(await through(server.addr.port, new Uint8Array(5_000_000)), 5_000_000);
    assert.equal(await through(1, Uint8Array.of(1)), 0);
  },
);

testSessions("files go in and out as archives; what the guest refuses is an error", async (setup) => {
  const { client, guestFolder, keep } = setup;
  const id = await keep();
  await Deno.mkdir(`${guestFolder}/from`);
  await Deno.writeTextFile(`${guestFolder}/from/a`, "content");
  const tar = await client.readFiles(id, `${guestFolder}/from`);
  await client.writeFiles(id, `${guestFolder}/to`, tar);
  assert.equal(await Deno.readTextFile(`${guestFolder}/to/a`), "content");
  await assert.rejects(client.readFiles(id, "/nowhere/at/all"), isError(409, /cannot send .nowhere/));
  await assert.rejects(client.readFiles(id, "relative"), isError(400, /absolute/));
});

testSessions("a kept session is stopped with its disk, and removed with it", async (setup) => {
  const { client, keep, stateDir, isDisposed } = setup;
  const id = await keep();
  assert.deepEqual((await client.sessions()).map(({ state, isKept }) => [state, isKept]), [[
    "running",
    true,
  ]]);
  assert.equal((await client.stopSession(id)).state, "stopped");
  assert.equal(isDisposed(), true);
  assert.equal(await client.sessionLog(id, "console"), "the last words\n");
  assert.equal(await Deno.readTextFile(`${stateDir}/kept/${id}/overlay.qcow2`), "a disk");
  await assert.rejects(client.exec(id, { argv: ["true"] }).status, /is stopped/);
  await client.removeSession(id);
  assert.deepEqual(await client.sessions(), []);
  await assert.rejects(client.removeSession(id), isError(404, /no session/));
  assert.deepEqual(Array.from(Deno.readDirSync(`${stateDir}/kept`)), []);
});

testSessions(
  "the session of a task that runs can be entered, and neither stopped nor removed",
  async (setup) => {
    const { client, endTask } = setup;
    const { id } = await client.submit({ agent: "codex", prompt: "p" });
    await sessionIsUp(client);
    assert.equal((await outcome(client.exec(id, { ...AS_ROOT, argv: ["echo", "in"] }))).stdout, "in\n");
    for (const act of [client.stopSession(id), client.removeSession(id)]) {
      await assert.rejects(act, isError(409, /cancel the task/));
    }
    endTask();
  },
);

testSessions("what is wrong with a request is said, over a WebSocket too", async ({ client, keep }) => {
  const id = await keep();
  await assert.rejects(client.exec(id, { argv: [] }).status, /must say what to run/);
  await assert.rejects(client.exec(id, { argv: ["true"], cwd: "x" }).status, /cwd/);
  await assert.rejects(client.exec("nothere", { argv: ["true"] }).status, /Lost session|no session/);
  await assert.rejects(client.exec(id, { ...AS_ROOT, argv: ["/no/such/program"] }).status, /No such file/);
});

Deno.test("a task without a prompt must be interactive, and the other way round", async () => {
  const stateDir = await Deno.makeTempDir();
  const service = await openTaskService({
    stateDir,
    runner: () => Promise.reject(new Error("must not run")),
  });
  const app = createApp({ service, token: TOKEN });
  const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
  for (const body of [{ agent: "codex" }, { agent: "codex", prompt: "p", interactive: true }]) {
    const response = await app.request("/v1/tasks", { method: "POST", headers, body: JSON.stringify(body) });
    assert.equal(response.status, 400);
    assert.match(await response.text(), /must say what to do/);
  }
  await service.close();
  await Deno.remove(stateDir, { recursive: true });
});

Deno.test("half a kept session, as a crash leaves it, is removed at the next start", async () => {
  const stateDir = await Deno.makeTempDir();
  await Deno.mkdir(`${stateDir}/kept/half`, { recursive: true });
  await Deno.writeTextFile(`${stateDir}/kept/half/session.json`, "{}");
  await Deno.mkdir(`${stateDir}/kept/whole`);
  const facts = {
    version: 1,
    id: "whole",
    agent: "codex",
    memoryMib: 1,
    cpus: 1,
    createdAt: "x",
    imageKey: "k",
  };
  await Deno.writeTextFile(`${stateDir}/kept/whole/session.json`, JSON.stringify(facts));
  await Deno.writeTextFile(`${stateDir}/kept/whole/overlay.qcow2`, "disk");
  const service = await openTaskService({ stateDir });
  assert.deepEqual((await service.sessions.list(LOCAL_PRINCIPAL)).map(({ id, state }) => [id, state]), [[
    "whole",
    "stopped",
  ]]);
  assert.deepEqual(Array.from(Deno.readDirSync(`${stateDir}/kept`), ({ name }) => name), ["whole"]);
  await service.close();
  await Deno.remove(stateDir, { recursive: true });
});
