import assert from "node:assert/strict";
import type { CredentialHeader } from "../../agent-images/agent_login.ts";
import { spec as codex } from "../../agent-images/codex/agent.ts";
import { spec as openclaw } from "../../agent-images/openclaw/agent.ts";
import { spec as shell } from "../../agent-images/shell/agent.ts";
import { LocalError } from "../../src/local/local_error.ts";
import { type ModelAccess, type ModelAccessOptions, openModelAccess } from "../../src/local/model_access.ts";
import { jwt, type LoginServer, startLoginServer } from "../support/login_server.ts";

const MINUTE_MS = 60_000;
const VARIABLES = ["OPENAI_API_KEY", "CODEX_HOME", "CODEX_REFRESH_TOKEN_URL_OVERRIDE"];

interface Setup {
  readonly server: LoginServer;
  readonly notices: string[];
  readonly open: (options?: Partial<ModelAccessOptions>) => Promise<ModelAccess>;
}

/** A user with a login of Codex that lasts for some time, and with a key if one is given. */
async function withUser(
  facts: { readonly key?: string; readonly loginMs?: number; readonly newMs?: number },
  use: (setup: Setup) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const before = VARIABLES.map((name) => Deno.env.get(name));
  const set = (name: string, value: string | undefined): void =>
    value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
  const notices: string[] = [];
  await using server = startLoginServer("refresh", facts.newMs ?? 60 * MINUTE_MS);
  try {
    if (facts.loginMs !== undefined) {
      const tokens = { access_token: jwt(Date.now() + facts.loginMs, "first"), refresh_token: "refresh" };
      await Deno.writeTextFile(`${folder}/auth.json`, JSON.stringify({ tokens }));
    }
    set("OPENAI_API_KEY", facts.key);
    set("CODEX_HOME", folder);
    set("CODEX_REFRESH_TOKEN_URL_OVERRIDE", server.url);
    await use({
      server,
      notices,
      open: (options = {}) =>
        openModelAccess({
          spec: codex,
          demo: false,
          login: false,
          timeoutMs: MINUTE_MS,
          onNotice: (message) => notices.push(message),
          ...options,
        }),
    });
  } finally {
    VARIABLES.forEach((name, index) => set(name, before[index]));
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("openModelAccess() prefers a key, uses a login where there is none, and says which", async () => {
  await withUser({ key: "sk-1", loginMs: 60 * MINUTE_MS }, async ({ open, notices }) => {
    const { apiKey, modelHeaders } = await open();
    assert.deepEqual([apiKey, modelHeaders], ["sk-1", undefined]);
    assert.equal(Deno.env.get("OPENAI_API_KEY"), undefined);
    assert.deepEqual(notices, ["Using the key in OPENAI_API_KEY"]);
  });
  await withUser({ loginMs: 60 * MINUTE_MS }, async ({ open, notices }) => {
    const { apiKey, modelHeaders, modelUrl } = await open();
    assert.equal(apiKey, undefined);
    assert.equal(modelUrl, "https://chatgpt.com/backend-api/codex");
    assert.match(modelHeaders?.[0]?.value ?? "", /^Bearer .*secret-sig$/);
    assert.match(notices.join("\n"), /^Using the ChatGPT login of Codex in .*auth\.json$/);
  });
  await withUser({ key: "sk-1", loginMs: 60 * MINUTE_MS }, async ({ open }) => {
    const { apiKey, modelHeaders } = await open({ login: true });
    assert.equal(apiKey, undefined);
    assert.equal(modelHeaders?.length, 1);
  });
});

Deno.test("openModelAccess() sends a login to another place than its provider only when asked", async () => {
  const modelUrl = "http://127.0.0.1:1/v1";
  await withUser({ loginMs: 60 * MINUTE_MS }, async ({ open }) => {
    assert.equal((await open({ modelUrl })).modelHeaders, undefined);
    const asked = await open({ modelUrl, login: true });
    assert.equal(asked.modelUrl, modelUrl);
    assert.equal(asked.modelHeaders?.length, 1);
  });
});

Deno.test("openModelAccess() says what is missing", async () => {
  await withUser({}, async ({ open }) => {
    await assert.rejects(
      open(),
      /OPENAI_API_KEY is not set: set it, log in with "codex login", or use --demo/,
    );
    await assert.rejects(open({ login: true }), /no ChatGPT login of Codex: make one with "codex login"/);
    await assert.rejects(open({ login: true, spec: openclaw }), LocalError);
    await assert.rejects(open({ spec: openclaw }), /OPENAI_API_KEY is not set: set it, or use --demo/);
  });
});

Deno.test("openModelAccess() renews a login that would end within the task, and then follows it", async () => {
  // Each token lasts five minutes and one second: it is renewed a second after it came.
  await withUser({ loginMs: 10 * MINUTE_MS, newMs: 5 * MINUTE_MS + 1000 }, async ({ open, server }) => {
    const access = await open();
    const first = access.modelHeaders?.[0]?.value;
    assert.equal(first, `Bearer ${server.accessToken}`);
    assert.equal(server.requests.length, 1);
    const pushed = Promise.withResolvers<readonly CredentialHeader[]>();
    const over = new AbortController();
    access.follow((headers) => Promise.resolve(pushed.resolve(headers)), over.signal);
    // Its timer does not keep a process alive.
    const alive = setInterval(() => {}, 1000);
    const headers = await pushed.promise;
    clearInterval(alive);
    over.abort();
    assert.equal(headers[0]?.value, `Bearer ${server.accessToken}`);
    assert.notEqual(headers[0]?.value, first);
    assert.equal(server.requests.length, 2);
  });
});

Deno.test("an agent without a model is asked for no key, and refuses what only a model takes", async () => {
  await withUser({ key: "sk-not-for-it" }, async ({ open, notices }) => {
    assert.equal((await open({ spec: shell })).apiKey, undefined);
    assert.equal(Deno.env.get("OPENAI_API_KEY"), "sk-not-for-it");
    assert.deepEqual(notices, []);
    await assert.rejects(open({ spec: shell, demo: true }), /Shell uses no model: leave out --demo/);
    await assert.rejects(open({ spec: shell, modelUrl: "http://h/v1" }), LocalError);
  });
});
