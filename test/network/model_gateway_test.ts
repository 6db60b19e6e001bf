import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import {
  type GatewayDecision,
  type GatewayLimits,
  type GatewayOptions,
  startModelGateway,
} from "../../src/network/model_gateway.ts";
import { ModelCredentials } from "../../src/network/model_credentials.ts";
import { ModelBudget } from "../../src/network/model_budget.ts";
import { startModelServer } from "../support/model_server/model_server.ts";

const KEY = "sk-real-key";

interface Setup {
  readonly post: (path: string, init?: RequestInit & { method?: string }) => Promise<Response>;
  readonly decisions: GatewayDecision[];
  readonly requests: ReturnType<typeof startModelServer>["requests"];
}

/** A gateway in front of a model server, asked through its Unix socket. */
async function withGateway(
  options:
    & {
      baseUrl?: string;
      errorShape?: "anthropic";
      credentials?: ModelCredentials;
      limits?: Partial<GatewayLimits>;
    }
    & Partial<GatewayOptions>,
  use: (setup: Setup) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const server = startModelServer({ requiredKey: KEY });
  const decisions: GatewayDecision[] = [];
  const gateway = startModelGateway({
    socketPath: `${folder}/gw.sock`,
    upstream: {
      baseUrl: options.baseUrl?.replace("SERVER", server.url) ?? server.url,
      paths: ["/v1/responses", "/v1/chat/completions", "/v1/messages"].map((path) => ({
        method: "POST",
        path,
      })),
      ...(options.errorShape && { errorShape: options.errorShape }),
      credentials: options.credentials ??
        new ModelCredentials([{ name: "authorization", value: `Bearer ${KEY}` }]),
    },
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    ...(options.budget && { budget: options.budget }),
    onRequest: options.onRequest,
    onDecision: (decision) => decisions.push(decision),
  });
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path: `${folder}/gw.sock` } });
  try {
    await use({
      decisions,
      requests: server.requests,
      post: (path, init) =>
        fetch(`http://172.30.0.1:8080${path}`, {
          method: "POST",
          body: JSON.stringify({ model: "m", input: [] }),
          ...init,
          client,
        } as RequestInit),
    });
  } finally {
    client.close();
    await gateway.close();
    await server.close();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("the gateway replaces the guest's placeholder by the key and passes the answer on", async () => {
  await withGateway({}, async ({ post, decisions, requests }) => {
    const response = await post("/v1/responses", {
      headers: {
        authorization: "Bearer placeholder",
        "x-api-key": "other",
        cookie: "a=b",
        "openai-beta": "x",
      },
    });
    const text = await response.text();
    assert.equal(response.status, 200);
    assert.match(text, /response\.completed/);
    assert.equal(requests[0]?.headers.authorization, `Bearer ${KEY}`);
    assert.equal(requests[0]?.headers["x-api-key"], undefined);
    assert.equal(requests[0]?.headers.cookie, undefined);
    assert.equal(requests[0]?.headers["openai-beta"], "x");
    assert.equal(decisions[0]?.action, "forwarded");
    assert.equal(decisions[0]?.responseBytes, text.length);
  });
});

Deno.test("the gateway lets no other path, method or upgrade through", async () => {
  await withGateway({}, async ({ post, decisions, requests }) => {
    const cases = [
      ["/v1/models", "POST", 403],
      ["/v1/responses/../files", "POST", 403],
      ["//v1/responses", "POST", 403],
      ["/v1/responses/", "POST", 403],
      ["/v1/%72esponses", "POST", 403],
      ["/v1/responses", "DELETE", 405],
    ] as const;
    for (const [path, method, status] of cases) {
      const response = await post(path, { method });
      await response.body?.cancel();
      assert.equal(response.status, status, path);
    }
    assert.deepEqual(requests, []);
    assert.ok(decisions.every((decision) => decision.action === "refused"));
  });
});

Deno.test("the gateway refuses a request that is too large, with a length or without", async () => {
  await withGateway({ limits: { requestBytes: 1000 } }, async ({ post, requests }) => {
    const known = await post("/v1/responses", { body: "x".repeat(2000) });
    await known.body?.cancel();
    assert.equal(known.status, 413);
    const stream = ReadableStream.from(Array.from({ length: 20 }, () => new Uint8Array(100)));
    const unknown = await post("/v1/responses", { body: stream as unknown as BodyInit });
    await unknown.body?.cancel();
    assert.equal(unknown.status, 413);
    assert.deepEqual(requests, []);
  });
});

Deno.test("the gateway reports what an error of the provider says", async () => {
  await withGateway({ baseUrl: "SERVER/fault/429" }, async ({ post, decisions }) => {
    const response = await post("/v1/responses");
    await response.text();
    assert.equal(response.status, 429);
    assert.equal(decisions[0]?.reason, "Rate limit reached (scripted)");
  });
});

Deno.test("the gateway answers 502 as a provider would when the provider cannot be reached", async () => {
  const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = closed.addr;
  closed.close();
  await withGateway({ baseUrl: `http://127.0.0.1:${port}` }, async ({ post, decisions }) => {
    const response = await post("/v1/responses");
    const body = await response.json() as { error: { message: string; code: string } };
    assert.equal(response.status, 502);
    assert.equal(body.error.code, "upstream_unreachable");
    assert.match(body.error.message, /cannot be reached/);
    assert.equal(decisions[0]?.action, "failed");
  });
});

Deno.test("the gateway cuts its answer when the provider cuts its own", async () => {
  await withGateway({ baseUrl: "SERVER/fault/cut" }, async ({ post, decisions }) => {
    const response = await post("/v1/responses");
    await assert.rejects(response.text());
    assert.equal(decisions[0]?.reason, "Model API cut its answer short");
  });
});

Deno.test("the gateway gives up on a provider that goes silent", async () => {
  await withGateway({ baseUrl: "SERVER/fault/silent", limits: { idleTimeoutMs: 200 } }, async (setup) => {
    const start = performance.now();
    const response = await setup.post("/v1/responses");
    await assert.rejects(response.text());
    assert.ok(performance.now() - start < 3000);
    assert.match(setup.decisions[0]?.reason ?? "", /went silent/);
  });
});

Deno.test("the gateway bounds the number of requests in progress", async () => {
  const limits = { concurrentRequests: 1, idleTimeoutMs: 2000 };
  await withGateway({ baseUrl: "SERVER/fault/silent", limits }, async ({ post }) => {
    const first = await post("/v1/responses");
    const second = await post("/v1/responses");
    await second.body?.cancel();
    assert.equal(second.status, 429);
    await first.body?.cancel();
  });
});

Deno.test("the gateway can be closed while answers are under way", async () => {
  let pending: Promise<string> | undefined;
  await withGateway({ baseUrl: "SERVER/fault/silent" }, async ({ post }) => {
    pending = (await post("/v1/responses")).text();
    pending.catch(() => {});
  });
  await assert.rejects(pending ?? Promise.resolve());
});

Deno.test("the gateway counts tokens, and refuses in the provider's own shape once the budget is used", async () => {
  const budget = new ModelBudget({ maxTokens: 200 });
  await withGateway({ budget }, async ({ post, decisions }) => {
    for (let request = 0; request < 2; request++) await (await post("/v1/responses")).text();
    assert.deepEqual(budget.used, { inputTokens: 200, cachedTokens: 0, outputTokens: 40 });
    const refused = await post("/v1/responses");
    assert.equal(refused.status, 403);
    const { error } = await refused.json();
    assert.equal(error.code, "budget_exceeded");
    assert.match(error.message, /200 tokens is used up/);
    assert.deepEqual(decisions.map(({ action }) => action), ["forwarded", "forwarded", "refused"]);
  });
});

Deno.test("the gateway adds several credentials, joins lists, and takes renewed ones", async () => {
  const credentials = new ModelCredentials([
    { name: "authorization", value: "Bearer one" },
    { name: "anthropic-beta", value: "oauth", isListed: true },
  ]);
  await withGateway({ credentials }, async ({ post, requests }) => {
    const headers = {
      authorization: "Bearer placeholder",
      "anthropic-beta": "tools",
      "chatgpt-account-id": "x",
    };
    await (await post("/v1/responses", { headers })).body?.cancel();
    credentials.renew([{ name: "authorization", value: `Bearer ${KEY}` }]);
    await (await post("/v1/responses", { headers })).text();
    assert.deepEqual(
      requests.map((request) => [request.headers.authorization, request.headers["anthropic-beta"]]),
      [["Bearer one", "tools, oauth"], [`Bearer ${KEY}`, "tools"]],
    );
    assert.ok(requests.every((request) => request.headers["chatgpt-account-id"] === undefined));
  });
});

Deno.test("the gateway counts what answers cost in all three protocols, and refuses at the limit", async () => {
  const prices = [{ m: { input: 1000, output: 10_000 } }];
  const cases = [
    ["/v1/responses", undefined],
    ["/v1/chat/completions", undefined],
    ["/v1/messages", "anthropic"],
  ] as const;
  for (const [path, errorShape] of cases) {
    // Each answer has 100 tokens of input and 20 of output: 0.10 and 0.20.
    const budget = new ModelBudget({ maxCostUsd: 0.5, prices });
    await withGateway({ budget, ...(errorShape && { errorShape }) }, async ({ post }) => {
      const body = JSON.stringify({ model: "m", stream: true, input: [], messages: [] });
      for (let request = 0; request < 2; request++) await (await post(path, { body })).text();
      assert.equal(budget.costUsd?.toFixed(6), "0.600000");
      const refused = await post(path, { body });
      assert.equal(refused.status, 403);
      const { error, type } = await refused.json();
      assert.equal(type, errorShape && "error");
      assert.equal(error.type, "budget_exceeded");
      assert.equal(error.message, "The task's budget of $0.5 is used up ($0.6 were spent)");
    });
  }
});

Deno.test("the gateway sends nothing on whose model has no price, when the cost is limited", async () => {
  const budget = new ModelBudget({ maxCostUsd: 1, prices: [{ m: { input: 1, output: 1 } }] });
  const gzip = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(gzipSync(text));
  await withGateway({ budget }, async ({ post, requests, decisions }) => {
    const ask = async (body: BodyInit, encoding = "identity"): Promise<[number, string]> => {
      const response = await post("/v1/responses", { body, headers: { "content-encoding": encoding } });
      const text = await response.text();
      return [response.status, text];
    };
    const unknown = JSON.stringify({ model: "other", input: [] });
    for (const [body, encoding] of [[unknown], [gzip(unknown), "gzip"]] as const) {
      const [status, text] = await ask(body, encoding);
      assert.equal(status, 403);
      assert.match(text, /No price is known for model \\"other\\".*--prices FILE/);
    }
    const bomb = gzip(JSON.stringify({ model: "m", input: "x".repeat(20 * 1024 ** 2) }));
    for (const [body, encoding] of [["{}"], ["no JSON"], [bomb, "gzip"], [unknown, "br"]] as const) {
      const [status, text] = await ask(body, encoding);
      assert.equal(status, 403);
      assert.match(text, /names no model/);
    }
    assert.deepEqual(requests, []);
    assert.ok(decisions.every(({ action }) => action === "refused"));
    assert.equal((await ask(gzip(JSON.stringify({ model: "m", input: [] })), "gzip"))[0], 200);
    assert.equal(budget.wasExceeded, false);
  });
});

Deno.test("the gateway shows whole requests to whoever reads them, and none that is compressed", async () => {
  const bodies: string[] = [];
  const onRequest = (body: Uint8Array): void => void bodies.push(new TextDecoder().decode(body));
  await withGateway({ onRequest }, async ({ post }) => {
    const body = JSON.stringify({ model: "m", input: [], padding: "x".repeat(300_000) });
    await (await post("/v1/responses", { body })).text();
    await (await post("/v1/responses", { body, headers: { "content-encoding": "gzip" } })).text();
    assert.deepEqual(bodies, [body]);
  });
});
