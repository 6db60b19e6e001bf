import assert from "node:assert/strict";
import { createApp } from "../../src/api/app.ts";
import { ApiClient, ApiError } from "../../src/api/client.ts";
import type { Principal } from "../../src/api/principal.ts";
import { submissionSchema } from "../../src/api/schemas.ts";
import { sessionSubmissionSchema } from "../../src/api/session_schemas.ts";
import { openTaskService, type TaskService } from "../../src/api/task_service.ts";
import { testWithNativeGuest, withNativeGuest } from "../support/native_guest.ts";
import { fakeMaker, type MadeSession } from "../support/session_maker.ts";

const AS_ROOT = { user: "root", cwd: "/" } as const;
const isError = (status: number, pattern: RegExp) => (error: unknown): boolean =>
  error instanceof ApiError && error.status === status && pattern.test(error.message);

interface Setup {
  readonly client: ApiClient;
  /** of another token */
  readonly stranger: ApiClient;
  readonly baseUrl: string;
  readonly service: TaskService;
  readonly stateDir: string;
  readonly guestFolder: string;
  readonly made: readonly MadeSession[];
  /** makes a session and waits until it runs */
  readonly start: () => Promise<string>;
}

async function withServer(
  use: (setup: Setup) => Promise<void>,
  beforeBoot: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  await withNativeGuest(async (guest, guestFolder) => {
    const stateDir = await Deno.makeTempDir();
    const { make, prepare, made } = fakeMaker(guest, beforeBoot);
    const limits = { maxVms: 2, maxMemoryMib: 4096 };
    const service = await openTaskService({ stateDir, makeSession: make, prepare, limits });
    const app = createApp({
      service,
      access: async (context, next) => {
        const tokenId = context.req.header("authorization")?.replace("Bearer ", "") ?? "";
        const principal: Principal = { tokenId, scopes: new Set(["sessions:read", "sessions:write"]) };
        context.set("principal", principal);
        await next();
      },
    });
    const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
    const baseUrl = `http://127.0.0.1:${server.addr.port}`;
    const client = new ApiClient({ baseUrl, token: "mine" });
    const start = async (): Promise<string> => {
      const { id } = await client.createSession();
      assert.equal((await client.startedSession(id)).state, "running");
      return id;
    };
    const stranger = new ApiClient({ baseUrl, token: "theirs" });
    try {
      await use({ client, stranger, baseUrl, service, stateDir, guestFolder, made, start });
    } finally {
      await service.close();
      await server.shutdown();
      await Deno.remove(stateDir, { recursive: true });
    }
  });
}

testWithNativeGuest("a session is asked for, starts, runs, and is removed with all it had", () => {
  const boot = Promise.withResolvers<void>();
  return withServer(async ({ client, stateDir, made }) => {
    const submitted = { labels: { job: "7" }, env: { GREETING: "hello" }, ttlMs: 60_000, memoryMib: 300 };
    const view = await client.createSession(submitted);
    const { id } = view;
    assert.deepEqual([view.state, view.agent, view.memoryMib, view.labels], ["starting", "shell", 300, {
      job: "7",
    }]);
    const livesMs = Date.parse(view.expiresAt ?? "") - Date.parse(view.createdAt);
    assert.equal(livesMs, 60_000);
    const facts = JSON.parse(await Deno.readTextFile(`${stateDir}/kept/${id}/session.json`));
    assert.deepEqual([facts.id, facts.tokenId, facts.env], [id, "mine", undefined]);
    await assert.rejects(client.runCommand(id, { argv: ["true"] }), isError(409, /is starting/));
    boot.resolve();
    assert.equal((await client.startedSession(id)).state, "running");
    const result = await client.runCommand(id, { ...AS_ROOT, argv: ["sh", "-c", "echo $GREETING"] });
    assert.deepEqual([result.exitCode, result.stdout], [0, "hello\n"]);
    await client.removeSession(id);
    assert.equal(made[0]?.isDisposed, true);
    await assert.rejects(client.session(id), isError(404, /no session/));
    assert.deepEqual([...Deno.readDirSync(`${stateDir}/kept`)], []);
  }, () => boot.promise);
});

testWithNativeGuest(
  "a token has no more tasks and sessions at once than it may have",
  () =>
    withServer(async ({ service, made }) => {
      const principal: Principal = { tokenId: "a", scopes: new Set(["sessions:write"]), maxActive: 1 };
      const ask = () => service.sessions.create(sessionSubmissionSchema.parse({}), principal);
      const { id } = await ask();
      await assert.rejects(ask, /1 tasks and sessions at once/);
      await assert.rejects(
        () => service.submit(submissionSchema.parse({ agent: "shell", prompt: "x" }), { principal }),
        /1 tasks and sessions at once/,
      );
      await service.sessions.remove(id);
      await ask();
      assert.ok(made.length <= 2);
    }),
);

testWithNativeGuest("a session that is removed while it starts leaves nothing", () => {
  const boot = Promise.withResolvers<void>();
  return withServer(async ({ client, stateDir, made }) => {
    const { id } = await client.createSession();
    while (made.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const removed = client.removeSession(id);
    boot.resolve();
    await removed;
    assert.deepEqual([await client.sessions(), made[0]?.isDisposed], [[], true]);
    assert.deepEqual([...Deno.readDirSync(`${stateDir}/kept`)], []);
  }, () => boot.promise);
});

testWithNativeGuest(
  "a session that does not come up has failed, with the cause, until its time is over",
  () => {
    const fail = (): Promise<void> => Promise.reject(new Error("the kernel panicked"));
    return withServer(async ({ client }) => {
      const { id } = await client.createSession({ ttlMs: 10_000 });
      const { state, cause } = await client.startedSession(id);
      assert.deepEqual([state, cause], ["failed", "the kernel panicked"]);
      await assert.rejects(client.pauseSession(id), isError(409, /is failed/));
      assert.equal((await client.sessions())[0]?.state, "failed");
      await client.removeSession(id);
      assert.deepEqual(await client.sessions(), []);
    }, fail);
  },
);

testWithNativeGuest(
  "a session whose VM breaks has failed, and says why",
  () =>
    withServer(async ({ client, made, start }) => {
      const id = await start();
      made[0]?.end({ type: "crashed", exitCode: 9, message: "" });
      while ((await client.session(id)).state === "running") await new Promise((r) => setTimeout(r, 5));
      const { state, cause } = await client.session(id);
      assert.equal(state, "failed");
      assert.match(cause ?? "", /VMM process ended unexpectedly/);
    }),
);

testWithNativeGuest("sessions count against the limit of VMs", () =>
  withServer(async ({ client, start }) => {
    await Promise.all([start(), start()]);
    await assert.rejects(client.createSession(), isError(429, /2 VMs .* are in use/));
    const [first] = await client.sessions();
    await client.removeSession(first?.id ?? "");
    await start();
    await assert.rejects(client.createSession({ memoryMib: 5000 }), isError(429, /all memory/));
  }));

testWithNativeGuest(
  "a paused session takes no commands and goes on where it was",
  () =>
    withServer(async ({ client, made, start }) => {
      const id = await start();
      assert.equal((await client.pauseSession(id)).state, "paused");
      assert.equal((await client.pauseSession(id)).state, "paused");
      assert.equal(made[0]?.isPaused, true);
      const command = { ...AS_ROOT, argv: ["true"] };
      for (
        const refused of [
          client.runCommand(id, command),
          client.listFolder(id, "/"),
          client.readFiles(id, "/etc/hostname"),
        ]
      ) await assert.rejects(refused, isError(409, /is paused: resume it/));
      await assert.rejects(client.exec(id, command).status, /is paused/);
      assert.equal((await client.resumeSession(id)).state, "running");
      assert.equal((await client.runCommand(id, command)).exitCode, 0);
      await client.pauseSession(id);
      assert.equal((await client.stopSession(id)).state, "stopped");
      assert.equal(made[0]?.isPaused, false);
    }),
);

testWithNativeGuest(
  "at the end of its time a session is removed; its time can be changed",
  () =>
    withServer(async ({ client, service, start, made }) => {
      const id = await start();
      await assert.rejects(client.extendSession(id, 5), isError(400, /ttlMs/));
      const { expiresAt } = await client.extendSession(id, 7_200_000);
      assert.ok(Math.abs(Date.parse(expiresAt ?? "") - Date.now() - 7_200_000) < 5000);
      // Shorter than the API lets anybody ask for
      await service.sessions.setTtl(id, 100);
      const deadline = performance.now() + 5000;
      while ((await client.sessions()).length > 0) {
        assert.ok(performance.now() < deadline);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assert.equal(made[0]?.isDisposed, true);
    }),
);

testWithNativeGuest(
  "another token's session is not there",
  () =>
    withServer(async ({ client, stranger, start }) => {
      const id = await start();
      assert.deepEqual(await stranger.sessions(), []);
      const ways = [
        stranger.session(id),
        stranger.stopSession(id),
        stranger.removeSession(id),
        stranger.extendSession(id, 60_000),
        stranger.pauseSession(id),
        stranger.sessionLog(id, "console"),
        stranger.runCommand(id, { argv: ["true"] }),
        stranger.readFiles(id, "/etc"),
        stranger.writeFile(id, "/tmp/x", new Uint8Array(1)),
      ];
      for (const way of ways) await assert.rejects(way, isError(404, /There is no session/));
      await assert.rejects(stranger.exec(id, { argv: ["true"] }).status, /Lost session/);
      assert.equal((await client.session(id)).state, "running");
    }),
);

testWithNativeGuest(
  "a command's output is bounded, its time too, and what it reads arrives",
  () =>
    withServer(async ({ client, start }) => {
      const id = await start();
      const run = (script: string, more: object = {}): ReturnType<ApiClient["runCommand"]> =>
        client.runCommand(id, { ...AS_ROOT, argv: ["sh", "-c", script], ...more });
      const long = await run("head -c 3000000 /dev/zero | tr '\\0' x; echo err >&2; exit 4");
      assert.deepEqual([long.exitCode, long.stdout.length, long.stderr, long.truncated], [
        4,
        1024 * 1024,
        "err\n",
        true,
      ]);
      assert.equal((await run("wc -c", { stdin: "äb" })).stdout, "3\n");
      const late = await run("echo begun; sleep 100", { timeoutMs: 2000 });
      assert.deepEqual([late.exitCode, late.timedOut, late.stdout], [null, true, "begun\n"]);
      assert.equal((await run("kill -9 $$")).signal, 9);
      await assert.rejects(run("x".repeat(50_000)), isError(400, /must not be over/));
    }),
);

testWithNativeGuest(
  "single files are written and read, folders are listed",
  () =>
    withServer(async ({ client, start, guestFolder, baseUrl, stateDir }) => {
      const id = await start();
      const bytes = crypto.getRandomValues(new Uint8Array(65536));
      const path = `${guestFolder}/deep/er/ä b\n.bin`;
      await client.writeFile(id, path, bytes, 0o755);
      assert.deepEqual(await Deno.readFile(path), bytes);
      assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o755);
      const back = await client.readFile(id, path);
      assert.deepEqual(await new Response(back as ReadableStream<Uint8Array<ArrayBuffer>>).bytes(), bytes);
      await Deno.symlink("/nowhere", `${guestFolder}/deep/er/link`);
      await Deno.mkdir(`${guestFolder}/deep/er/sub`);
      await Deno.writeTextFile(`${guestFolder}/deep/er/.hidden`, "1234");
      const { entries, truncated } = await client.listFolder(id, `${guestFolder}/deep/er`);
      assert.deepEqual([truncated, entries.map(({ name, type }) => [name, type])], [false, [
        [".hidden", "file"],
        ["link", "symlink"],
        ["sub", "folder"],
        ["ä b\n.bin", "file"],
      ]]);
      assert.deepEqual([entries[0]?.sizeBytes, entries[3]?.mode], [4, 0o755]);
      assert.ok(Math.abs(Date.parse(entries[3]?.modifiedAt ?? "") - Date.now()) < 60_000);
      await assert.rejects(client.listFolder(id, "/no/such"), isError(404, /no folder/));
      await assert.rejects(client.readFile(id, `${guestFolder}/deep`), isError(409, /is not a file/));
      await assert.rejects(client.readFile(id, "relative"), isError(400, /absolute/));
      const response = await fetch(
        `${baseUrl}/v1/sessions/${id}/files/content?path=${encodeURIComponent(path)}`,
        {
          headers: { authorization: "Bearer mine" },
        },
      );
      assert.match(response.headers.get("content-security-policy") ?? "", /^sandbox/);
      await response.body?.cancel();
      const streamed = await fetch(
        `${baseUrl}/v1/sessions/${id}/files/content?path=${guestFolder}/streamed`,
        {
          method: "PUT",
          headers: { authorization: "Bearer mine", "content-type": "application/octet-stream" },
          body: new Blob(["x".repeat(100_000)]).stream(),
        },
      );
      assert.equal(streamed.status, 204);
      assert.equal(await Deno.readTextFile(`${guestFolder}/streamed`), "x".repeat(100_000));
      assert.deepEqual(Array.from(Deno.readDirSync(`${stateDir}/sessions/${id}`), ({ name }) => name), []);
    }),
);

/** A server that answers with the request as it came. */
function plainServer(): AsyncDisposable & { readonly port: number } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  void (async (): Promise<void> => {
    for await (const conn of listener) {
      const bytes = new Uint8Array(65536);
      const length = await conn.read(bytes) ?? 0;
      await conn.write(new TextEncoder().encode(`HTTP/1.0 200 OK\r\nContent-Length: ${length}\r\n\r\n`));
      await conn.write(bytes.subarray(0, length));
      conn.close();
    }
  })().catch(() => {});
  return { port: listener.addr.port, [Symbol.asyncDispose]: () => Promise.resolve(listener.close()) };
}

/** A server as it may run in a guest: it says what it was asked. */
function guestServer(): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    if (request.headers.has("upgrade")) {
      const { socket, response } = Deno.upgradeWebSocket(request, { protocol: "echo" });
      socket.onopen = (): void => socket.send("welcome");
      socket.onmessage = (event: MessageEvent): void => socket.send(event.data);
      return response;
    }
    if (pathname === "/slow") {
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      const writer = writable.getWriter();
      void writer.write(new TextEncoder().encode("first "));
      setTimeout(() => void writer.write(new TextEncoder().encode("last")).then(() => writer.close()), 500);
      return new Response(readable);
    }
    if (pathname === "/move") return new Response(null, { status: 302, headers: { location: "/there" } });
    const headers: [string, string][] = [["set-cookie", "a=b"], ["x-own", "1"]];
    const asked = {
      method: request.method,
      target: pathname + search,
      body: (await request.bytes()).length,
      headers: Object.fromEntries(request.headers),
    };
    return new Response(JSON.stringify(asked), { status: 418, headers });
  });
}

testWithNativeGuest(
  "a server in the guest is asked by HTTP, and sees nothing of ours",
  () =>
    withServer(async ({ start, stranger, baseUrl }) => {
      const id = await start();
      await using server = guestServer();
      const base = `${baseUrl}/v1/sessions/${id}/ports/${server.addr.port}`;
      const ask = (path: string, init: RequestInit = {}): Promise<Response> => {
        const headers = { authorization: "Bearer mine", cookie: "c=d", "x-kept": "1", ...init.headers };
        return fetch(base + path, { redirect: "manual", ...init, headers });
      };
      const response = await ask("/a%2Fb/c?d=%20e", { method: "PUT", body: new Uint8Array(300_000) });
      assert.deepEqual([response.status, response.headers.get("x-own"), response.headers.has("set-cookie")], [
        418,
        "1",
        false,
      ]);
      assert.match(response.headers.get("content-security-policy") ?? "", /^sandbox/);
      const asked = await response.json();
      assert.deepEqual([asked.method, asked.target, asked.body], ["PUT", "/a%2Fb/c?d=%20e", 300_000]);
      const { authorization, cookie, host, "x-kept": kept, "content-length": length } = asked.headers;
      assert.deepEqual([authorization, cookie, host, kept, length], [
        undefined,
        undefined,
        `localhost:${server.addr.port}`,
        "1",
        "300000",
      ]);
      const streamed = await ask("", {
        method: "POST",
        body: new Blob([new Uint8Array(5_000_000)]).stream(),
      });
      assert.equal((await streamed.json()).body, 5_000_000);
      assert.equal((await ask("/move")).headers.get("location"), `${new URL(base).pathname}/there`);
      const reader = ((await ask("/slow")).body ?? new ReadableStream()).getReader();
      const before = performance.now();
      assert.equal(new TextDecoder().decode((await reader.read()).value), "first ");
      assert.ok(performance.now() - before < 400);
      assert.equal(new TextDecoder().decode((await reader.read()).value), "last");
      const theirs = await fetch(base, { headers: { authorization: "Bearer theirs" } });
      assert.deepEqual([theirs.status, (await stranger.sessions()).length], [404, 0]);
      await using plain = plainServer();
      const raw = await fetch(`${base.replace(/\d+$/, String(plain.port))}/p?q`, {
        headers: { authorization: "Bearer mine" },
      });
      assert.match(await raw.text(), /^GET \/p\?q HTTP\/1\.1\r\n/);
      const closed = await ask("/../1/x");
      assert.equal(closed.status, 502);
      assert.match((await closed.json()).detail, /Port 1 of the session gave no answer: .*refused/i);
      await Promise.all([closed, theirs].map(({ body }) => body?.cancel().catch(() => {})));
    }),
);

testWithNativeGuest(
  "a WebSocket to a server in the guest carries messages both ways",
  () =>
    withServer(async ({ start, client, baseUrl }) => {
      const id = await start();
      await using server = guestServer();
      const url = `${baseUrl.replace("http", "ws")}/v1/sessions/${id}/ports/${server.addr.port}/ws`;
      const open = (target: string): WebSocket =>
        new (WebSocket as unknown as new (url: string, options: object) => WebSocket)(target, {
          protocols: ["other", "echo"],
          headers: { authorization: "Bearer mine" },
        });
      const socket = open(url);
      socket.binaryType = "arraybuffer";
      const seen: (string | number)[] = [];
      const over = Promise.withResolvers<number>();
      socket.onclose = ({ code }): void => over.resolve(code);
      await new Promise<void>((resolve) => {
        socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>): void => {
          seen.push(typeof data === "string" ? data : data.byteLength);
          if (seen.length === 1) {
            socket.send("text");
            socket.send(new Uint8Array(200_000));
          }
          if (seen.length === 3) resolve();
        };
      });
      assert.deepEqual([seen, socket.protocol], [["welcome", "text", 200_000], "echo"]);
      await client.removeSession(id);
      await over.promise;
      const refused = open(url.replace(/ports\/\d+/, "ports/1"));
      const failed = await new Promise((resolve) => {
        refused.onerror = (): void => resolve(true);
        refused.onopen = (): void => resolve(false);
      });
      assert.equal(failed, true);
    }),
);

Deno.test("what a dead server ran is gone at the next start; what it had stopped stays until its time is over", async () => {
  const stateDir = await Deno.makeTempDir();
  const inAnHour = new Date(Date.now() + 3_600_000).toISOString();
  const dead = crypto.randomUUID();
  const common = { version: 1, agent: "shell", memoryMib: 1, cpus: 1, createdAt: "x", imageKey: "k" };
  const write = async (id: string, facts: object, hasDisk: boolean): Promise<void> => {
    await Deno.mkdir(`${stateDir}/kept/${id}`, { recursive: true });
    await Deno.writeTextFile(
      `${stateDir}/kept/${id}/session.json`,
      JSON.stringify({ ...common, id, ...facts }),
    );
    if (hasDisk) await Deno.writeTextFile(`${stateDir}/kept/${id}/overlay.qcow2`, "disk");
  };
  const asked = { isRequested: true, expiresAt: inAnHour };
  await write("starting", { ...asked, owner: dead }, false);
  await write("running", { ...asked, owner: dead }, true);
  await write("stopped", asked, true);
  await write("expired", { isRequested: true, expiresAt: "2026-01-01T00:00:00Z" }, true);
  await write("oftask", { owner: dead }, true);
  await write("failed", { ...asked, failure: "no" }, false);
  await Deno.mkdir(`${stateDir}/kept/new-${dead}-halfmade`);
  const service = await openTaskService({ stateDir });
  const left = Array.from(Deno.readDirSync(`${stateDir}/kept`), ({ name }) => name).sort();
  assert.deepEqual(left, ["failed", "oftask", "stopped"]);
  assert.equal((await service.sessions.view("oftask")).state, "stopped");
  assert.equal((await service.sessions.view("failed")).cause, "no");
  await service.close();
  await Deno.remove(stateDir, { recursive: true });
});
