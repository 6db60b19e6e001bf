import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type Context, Hono } from "hono";
import type { ApiEnv } from "../../src/api/principal.ts";
import type { TaskRunner } from "../../src/api/task_service.ts";
import { upgradeSocket } from "../../src/api/upgrade_socket.ts";
import { openPublicServer } from "../../src/local/public_server.ts";
import { lostResult } from "../../src/session/task.ts";
import { readAll, type TestService, type TestServiceOptions, withService } from "../support/service.ts";

const runner: TaskRunner = async ({ signal }) => {
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  return lostResult("cancelled");
};

function testService(
  name: string,
  options: Partial<TestServiceOptions>,
  use: (setup: TestService) => Promise<void>,
): void {
  Deno.test(name, () => withService({ runner, ...options }, use));
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Sends a byte now and then until the other side has had enough; gives how long that took, in `ms`, and what it said. */
async function trickle(
  port: number,
  start: string,
  pauseMs: number,
): Promise<{ readonly ms: number; readonly answer: string }> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const startMs = performance.now();
  if (start !== "") await conn.write(bytes(start));
  let isOver = false;
  const answer = readAll(conn).finally(() => isOver = true);
  while (!isOver && performance.now() - startMs < 10_000) {
    await pause(pauseMs);
    await conn.write(bytes("a")).catch(() => {/* it is closed */});
  }
  assert.ok(isOver, "the connection is still there");
  return { answer: await answer, ms: performance.now() - startMs };
}

async function isClosed(conn: Deno.Conn, withinMs: number): Promise<boolean> {
  const over = readAll(conn).then(() => true);
  return await Promise.race([over, pause(withinMs).then(() => false)]);
}

testService("headers that never end are cut off", { limits: { headMs: 400 } }, async ({ server }) => {
  for (const start of ["", "G", "GET /v1/tasks HTTP/1.1\r\nHost: x\r\nX-A: a"]) {
    const { ms, answer } = await trickle(server.port, start, 50);
    assert.ok(ms > 300 && ms < 3000, `${start}: ${ms}`);
    assert.equal(answer, "");
  }
});

testService("a second request's headers have no more time than the first one's", {
  limits: { headMs: 400 },
}, async ({ server }) => {
  const first = `GET /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n\r\n`;
  const { ms, answer } = await trickle(server.port, `${first}GET /v1/ta`, 50);
  assert.match(answer, /^HTTP\/1\.1 401 /);
  assert.ok(ms > 300 && ms < 3000, `${ms}`);
});

testService("a connection without a request is closed, and one with a quiet request is not", {
  limits: { headMs: 300, idleMs: 500 },
}, async (setup) => {
  const { port } = setup.server;
  const token = setup.token();
  const head = (path: string): string =>
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\n\r\n`;
  const { id } = await (await setup.ask(token, "/v1/tasks", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ agent: "codex", prompt: "wait" }),
  })).json() as { id: string };
  using silent = await Deno.connect({ hostname: "127.0.0.1", port });
  using idle = await Deno.connect({ hostname: "127.0.0.1", port });
  using watching = await Deno.connect({ hostname: "127.0.0.1", port });
  await idle.write(bytes(head("/v1/tasks")));
  await watching.write(bytes(head(`/v1/tasks/${id}/events`)));
  const closed = await Promise.all([silent, idle, watching].map((conn) => isClosed(conn, 1500)));
  assert.deepEqual(closed, [true, true, false]);
});

function unfinishedBody(setup: TestService): string {
  return `POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1:${setup.server.port}\r\n` +
    `Authorization: Bearer ${setup.token()}\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n"`;
}

testService("a body that stops coming is cut off with an answer", {
  bodyLimits: { idleMs: 400, graceMs: 60_000, bytesPerSecond: 100 },
}, async (setup) => {
  const { answer } = await trickle(setup.server.port, unfinishedBody(setup), 1200);
  assert.match(answer, /^HTTP\/1\.1 408 /);
  assert.equal(setup.service.activeCount, 0);
});

testService("a body that trickles is cut off with an answer", {
  bodyLimits: { idleMs: 60_000, graceMs: 800, bytesPerSecond: 100 },
}, async (setup) => {
  const { answer, ms } = await trickle(setup.server.port, unfinishedBody(setup), 100);
  assert.match(answer, /^HTTP\/1\.1 408 /);
  assert.ok(ms > 700, `${ms}`);
  assert.equal(setup.service.activeCount, 0);
});

testService("a body that is slow and steady enough goes through", {
  bodyLimits: { idleMs: 400, graceMs: 200, bytesPerSecond: 1000 },
}, async (setup) => {
  const chunk = new Uint8Array(300);
  const body = new ReadableStream<Uint8Array>({
    async start(controller): Promise<void> {
      for (let i = 0; i < 8; i++) {
        controller.enqueue(chunk);
        await pause(100);
      }
      controller.close();
    },
  });
  const response = await setup.ask(setup.token(), "/v1/uploads", { method: "POST", body });
  assert.equal(response.status, 201);
  assert.equal((await response.json() as { sizeBytes: number }).sizeBytes, 2400);
});

testService("there are no more connections than allowed, and room again when one ends", {
  limits: { maxConnections: 3 },
}, async ({ server }) => {
  const connect = (): Promise<Deno.Conn> => Deno.connect({ hostname: "127.0.0.1", port: server.port });
  const open = await Promise.all([connect(), connect(), connect()]);
  while (server.connectionCount < 3) await pause(5);
  using fourth = await connect();
  assert.equal(await isClosed(fourth, 2000), true);
  open.pop()?.close();
  while (server.connectionCount > 2) await pause(5);
  using fifth = await connect();
  await fifth.write(bytes("GET /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  assert.match(await readAll(fifth), /^HTTP\/1\.1 403 /);
  for (const conn of open) conn.close();
});

testService("one address does not take all connections", {
  limits: { maxConnections: 100, maxPerAddress: 2 },
}, async ({ server }) => {
  const connect = (): Promise<Deno.Conn> => Deno.connect({ hostname: "127.0.0.1", port: server.port });
  using _one = await connect();
  using _two = await connect();
  while (server.connectionCount < 2) await pause(5);
  using third = await connect();
  assert.equal(await isClosed(third, 2000), true);
});

testService(
  "a submission that is too large is refused, whatever it says of its length",
  {},
  async (setup) => {
    const token = setup.token();
    const body = JSON.stringify({ agent: "codex", prompt: "x".repeat(5 * 1024 * 1024) });
    const headers = { "content-type": "application/json" };
    const sized = await setup.ask(token, "/v1/tasks", { method: "POST", headers, body });
    assert.equal(sized.status, 413);
    await sized.body?.cancel();
    const chunked = await setup.ask(token, "/v1/tasks", {
      method: "POST",
      headers,
      body: new Blob([body]).stream(),
    });
    assert.equal(chunked.status, 413);
    await chunked.body?.cancel();
    const endless =
      `POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1:${setup.server.port}\r\nAuthorization: Bearer ` +
      `${token}\r\nContent-Type: application/json\r\nContent-Length: 99999999999999\r\n\r\n{`;
    assert.match(await setup.raw(endless), /^HTTP\/1\.1 413 /);
    assert.equal(setup.service.activeCount, 0);
  },
);

testService("headers of megabytes are refused", {}, async (setup) => {
  const answer = await setup.raw(
    `GET /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1:${setup.server.port}\r\nX-A: ${"a".repeat(4_000_000)}\r\n\r\n`,
  ).catch(() => "");
  // It may be reset before its answer is read
  assert.match(answer, /^($|HTTP\/1\.1 4[0-9][0-9] )/);
  assert.deepEqual(setup.log, []);
});

/** A server of one route, behind the same front. */
async function withRoute(
  handle: (context: Context) => Response,
  use: (port: number, connectionCount: () => number) => Promise<void>,
): Promise<void> {
  await using server = openPublicServer({
    hostname: "127.0.0.1",
    port: 0,
    names: [],
    isBehindProxy: false,
    tokens: undefined as never,
    limits: { headMs: 300, idleMs: 300, stallMs: 500 },
    onRequest: () => {},
    createApp: () => new Hono<ApiEnv>().all("*", handle),
  });
  await use(server.port, () => server.connectionCount);
}

Deno.test("a client that never reads does not hold what is sent, nor its connection", async () => {
  let sentBytes = 0;
  let isCancelled = false;
  const endless = (): Response =>
    new Response(
      new ReadableStream<Uint8Array>({
        pull(controller): void {
          sentBytes += 65536;
          controller.enqueue(new Uint8Array(65536));
        },
        cancel: () => void (isCancelled = true),
      }, { highWaterMark: 0 }),
    );
  await withRoute(endless, async (port, connectionCount) => {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    await conn.write(bytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    while (!isCancelled) await pause(50);
    // What the sockets' buffers take in, and nothing that grows with time
    assert.ok(sentBytes > 0 && sentBytes < 32 * 1024 * 1024, `${sentBytes}`);
    while (connectionCount() > 0) await pause(20);
  });
});

Deno.test("a WebSocket that says nothing stays", async () => {
  const echo = ({ req }: Context): Response =>
    upgradeSocket(req.raw, (socket) => socket.onmessage = ({ data }): void => socket.send(data));
  await withRoute(echo, async (port) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, ["paddock", "paddock.bearer.x"]);
    await new Promise((resolve) => socket.onopen = resolve);
    assert.equal(socket.protocol, "paddock");
    await pause(1200);
    const echoed = new Promise((resolve) => socket.onmessage = ({ data }): void => resolve(data));
    socket.send("still here");
    assert.equal(await echoed, "still here");
    const closed = new Promise((resolve) => socket.onclose = resolve);
    socket.close();
    await closed;
  });
});

type StringTransform = TransformStream<Uint8Array, string>;

/** Memory that is in use, by scripts and for their buffers. */
function usedMib(): number {
  setFlagsFromString("--expose-gc");
  runInNewContext("gc")();
  const { heapUsed, external } = Deno.memoryUsage();
  return (heapUsed + external) / 1024 ** 2;
}

const EVENT_COUNT = 2000;
const WATCHER_COUNT = 20;

Deno.test("watchers that never read cost no memory, and one that reads has every event", async () => {
  const go = Promise.withResolvers<void>();
  // 8 MB of events: 160 MB if they were kept for each watcher
  const talkative: TaskRunner = async ({ onEvent }) => {
    await go.promise;
    for (let i = 0; i < EVENT_COUNT; i++) {
      onEvent({
        type: "agent",
        event: { v: 1, at: "now", type: "message", text: `${i} ${"x".repeat(4000)}` },
      });
      if (i % 50 === 0) await pause(0);
    }
    return lostResult("over", "done");
  };
  await withService({ runner: talkative, limits: { stallMs: 600_000 } }, async ({ ask, token, server }) => {
    const text = token();
    const submitted = await ask(text, "/v1/tasks", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ agent: "codex", prompt: "talk" }),
    });
    const { id } = await submitted.json() as { id: string };
    const head = `GET /v1/tasks/${id}/events HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\n` +
      `Authorization: Bearer ${text}\r\n\r\n`;
    const silent = await Promise.all(Array.from({ length: WATCHER_COUNT }, async () => {
      const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
      await conn.write(bytes(head));
      return conn;
    }));
    await pause(200);
    const before = usedMib();
    go.resolve();
    let [next, pending] = [0, ""];
    const watched = await ask(text, `/v1/tasks/${id}/events`);
    for await (const chunk of watched.body?.pipeThrough(new TextDecoderStream() as StringTransform) ?? []) {
      pending += chunk;
      const end = pending.lastIndexOf("\n\n") + 1;
      const whole = pending.slice(0, end);
      for (const [, i] of whole.matchAll(/"text":"([0-9]+) /g)) assert.equal(Number(i), next++);
      pending = pending.slice(end);
    }
    assert.equal(next, EVENT_COUNT);
    assert.ok(server.connectionCount > WATCHER_COUNT);
    const grownMib = usedMib() - before;
    assert.ok(grownMib < 60, `${grownMib} MiB`);
    for (const conn of silent) conn.close();
  });
});
