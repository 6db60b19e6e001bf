import assert from "node:assert/strict";
import { createApp } from "../../src/api/app.ts";
import { PRINCIPAL_HEADER } from "../../src/api/access.ts";
import { openTaskService, type TaskRunner } from "../../src/api/task_service.ts";
import { upgradeSocket } from "../../src/api/upgrade_socket.ts";
import { openPublicServer, type PublicServer } from "../../src/local/public_server.ts";
import { createForward, describeHost } from "../../src/local/serve_forward.ts";
import { openTokens, type Tokens } from "../../src/local/tokens.ts";
import { ModelCredentials } from "../../src/session/model_access.ts";
import { lostResult } from "../../src/session/task.ts";

const HOST_TOKEN = "the-host-s";

const waitingRunner: TaskRunner = async ({ signal }) => {
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  return lostResult("cancelled", "cancelled");
};

interface Setup {
  readonly outer: PublicServer;
  readonly innerUrl: string;
  /** submits a task to the server inside as if by a token, and gives its id */
  readonly submit: (token: string) => Promise<string>;
  readonly stopInner: () => Promise<void>;
  /** text of a token with these scopes */
  readonly token: (...scopes: readonly string[]) => string;
  readonly ask: (token: string, path: string, init?: RequestInit) => Promise<Response>;
}

/** A server with the host's token, which has an echo at `/v1/sessions/echo/connect/1`, and one before it with tokens. */
async function withForward(use: (setup: Setup) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  const service = await openTaskService({ stateDir: folder, runner: waitingRunner });
  const app = createApp({ service, token: HOST_TOKEN });
  const inner = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    if (!request.url.endsWith("/echo/connect/1")) return app.fetch(request);
    const seen = [request.headers.get("authorization"), request.headers.get(PRINCIPAL_HEADER)];
    return upgradeSocket(request, (socket) => {
      socket.onopen = (): void => socket.send(JSON.stringify(seen));
      socket.onmessage = ({ data }): void => socket.send(data);
    });
  });
  const innerUrl = `http://127.0.0.1:${inner.addr.port}`;
  using tokens: Tokens = openTokens(folder);
  const submissions = { credentialsFor: () => new ModelCredentials([]), onProgress: () => {} };
  const description = await describeHost({ url: innerUrl, token: HOST_TOKEN });
  const outer = openPublicServer({
    hostname: "127.0.0.1",
    port: 0,
    names: [],
    isBehindProxy: false,
    tokens: tokens.store,
    onRequest: () => {},
    createApp: (access) =>
      createForward({ url: innerUrl, token: HOST_TOKEN, submissions, description }, access),
  });
  const token = (...scopes: readonly string[]): string =>
    tokens.store.create({ name: "t", scopes, expiresAt: null, ratePerMinute: null, maxActive: null }).text;
  const ask = (text: string, path: string, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${text}`);
    return fetch(outer.url + path, { ...init, headers });
  };
  const submit = async (text: string): Promise<string> => {
    const principal = { tokenId: text.split("_")[1] ?? "", scopes: ["tasks:write"] };
    const response = await fetch(`${innerUrl}/v1/tasks`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${HOST_TOKEN}`,
        [PRINCIPAL_HEADER]: JSON.stringify(principal),
        "content-type": "application/json",
      },
      body: JSON.stringify({ agent: "codex", prompt: "wait" }),
    });
    assert.equal(response.status, 202);
    return (await response.json() as { id: string }).id;
  };
  try {
    await use({ outer, innerUrl, submit, token, ask, stopInner: () => inner.shutdown() });
  } finally {
    await service.close();
    await outer[Symbol.asyncDispose]();
    await inner.shutdown();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a forwarded request is its token's, whatever it says of itself", async () => {
  await withForward(async ({ submit, token, ask, innerUrl }) => {
    const [owner, other] = [token("tasks:read", "tasks:write"), token("tasks:read", "tasks:write")];
    const tokenId = owner.split("_")[1] ?? "";
    const id = await submit(owner);
    const spoofed = { [PRINCIPAL_HEADER]: JSON.stringify({ tokenId, scopes: ["admin"] }) };
    const statuses = await Promise.all([
      ask(owner, `/v1/tasks/${id}`),
      ask(other, `/v1/tasks/${id}`),
      ask(other, `/v1/tasks/${id}`, { headers: spoofed }),
      ask(HOST_TOKEN, `/v1/tasks/${id}`),
      fetch(`${innerUrl}/v1/tasks/${id}`, { headers: { ...spoofed, authorization: `Bearer ${owner}` } }),
    ].map(async (answer) => {
      const { status, body } = await answer;
      await body?.cancel();
      return status;
    }));
    assert.deepEqual(statuses, [200, 404, 404, 401, 401]);
    assert.equal((await (await ask(other, "/v1/tasks")).json() as { tasks: unknown[] }).tasks.length, 0);
  });
});

Deno.test("bytes and events are forwarded as they come, in both directions", async () => {
  await withForward(async ({ submit, token, ask }) => {
    const text = token("tasks:read", "tasks:write");
    const body = new Blob([new Uint8Array(3_000_000)]).stream();
    const upload = await ask(text, "/v1/uploads", { method: "POST", body });
    assert.deepEqual([upload.status, (await upload.json() as { sizeBytes: number }).sizeBytes], [
      201,
      3_000_000,
    ]);
    const id = await submit(text);
    const events = await ask(text, `/v1/tasks/${id}/events`);
    const reader = events.body?.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
      .getReader();
    assert.match((await reader?.read())?.value ?? "", /"state":"queued"/);
    assert.equal((await ask(text, `/v1/tasks/${id}/cancel`, { method: "POST" })).status, 202);
    let rest = "";
    for (let next = await reader?.read(); next?.done === false; next = await reader?.read()) {
      rest += next.value;
    }
    assert.match(rest, /"state":"cancelled"/);
  });
});

Deno.test("a WebSocket is forwarded with the host's token and who asks, and ends on both sides", async () => {
  await withForward(async ({ outer, token }) => {
    const text = token("sessions:write");
    const protocols = ["paddock", `paddock.bearer.${text}`];
    const socket = new WebSocket(`${outer.url.replace("http", "ws")}/v1/sessions/echo/connect/1`, protocols);
    socket.binaryType = "arraybuffer";
    const messages: unknown[] = [];
    const closed = new Promise((resolve) => socket.onclose = resolve);
    socket.onmessage = ({ data }): void => {
      messages.push(data);
      if (messages.length === 1) socket.send(new Uint8Array([1, 2, 3]));
      else socket.close();
    };
    await closed;
    const [first, second] = messages;
    const [authorization, principal] = JSON.parse(String(first)) as [string, string];
    assert.equal(authorization, `Bearer ${HOST_TOKEN}`);
    assert.deepEqual(JSON.parse(principal), { tokenId: text.split("_")[1], scopes: ["sessions:write"] });
    assert.deepEqual(new Uint8Array(second as ArrayBuffer), new Uint8Array([1, 2, 3]));
  });
});

Deno.test("a host that is gone is said to be, and a WebSocket to it is refused", async () => {
  await withForward(async ({ outer, token, ask, stopInner }) => {
    const text = token("tasks:read", "sessions:write");
    await stopInner();
    const response = await ask(text, "/v1/tasks");
    assert.equal(response.status, 503);
    assert.match((await response.json() as { detail: string }).detail, /sandbox host status/);
    const protocols = ["paddock", `paddock.bearer.${text}`];
    const socket = new WebSocket(`${outer.url.replace("http", "ws")}/v1/sessions/echo/connect/1`, protocols);
    const isOpen = await new Promise((resolve) => {
      socket.onopen = (): void => resolve(true);
      socket.onerror = (): void => resolve(false);
    });
    assert.equal(isOpen, false);
  });
});

Deno.test("the page and the description of the API are there without a token, and nothing else is", async () => {
  await withForward(async ({ outer }) => {
    const get = async (path: string): Promise<[number, string]> => {
      const response = await fetch(outer.url + path);
      return [response.status, await response.text()];
    };
    const [status, page] = await get("/");
    assert.equal(status, 200);
    assert.match(page, /<html/);
    assert.match((await get("/docs"))[1], /v1\/tasks/);
    assert.match((await get("/openapi.json"))[1], /^\{"openapi":"3\.1\.0"/);
    assert.equal((await get("/v1/tasks"))[0], 401);
    assert.equal((await get("/metrics"))[0], 401);
  });
});
