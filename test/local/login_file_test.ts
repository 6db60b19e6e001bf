import assert from "node:assert/strict";
import { CLAUDE_LOGIN } from "../../agent-images/claude-code/login.ts";
import { CODEX_LOGIN } from "../../agent-images/codex/login.ts";
import { LocalError } from "../../src/local/local_error.ts";
import { LoginFile } from "../../src/local/login_file.ts";
import { jwt, type LoginServer, startLoginServer } from "../support/login_server.ts";

const MINUTE_MS = 60_000;
const FIRST = "secret-refresh-0";

interface Setup {
  readonly server: LoginServer;
  readonly path: string;
  readonly file: LoginFile;
  readonly read: () => Record<string, Record<string, unknown>>;
}

/** Codex's file with a token that is valid for some time, and the server that renews it. */
async function withCodex(validMs: number, use: (setup: Setup) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  await using server = startLoginServer(FIRST, 60 * MINUTE_MS);
  const path = `${folder}/auth.json`;
  const text = JSON.stringify({
    OPENAI_API_KEY: null,
    tokens: {
      id_token: "id",
      access_token: jwt(Date.now() + validMs, "first"),
      refresh_token: FIRST,
      account_id: "account-1",
    },
    last_refresh: "2026-01-01T00:00:00Z",
    kept: { by: "its owner" },
  });
  try {
    await Deno.writeTextFile(path, text, { mode: 0o640 });
    await Deno.chmod(path, 0o640);
    await use({
      server,
      path,
      file: new LoginFile(CODEX_LOGIN, path, server.url),
      read: () => JSON.parse(Deno.readTextFileSync(path)),
    });
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name), ["auth.json"], "nothing is left");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("LoginFile.tokens() leaves a login alone that lasts long enough", async () => {
  await withCodex(30 * MINUTE_MS, async ({ file, server, path }) => {
    const before = await Deno.readTextFile(path);
    const { tokens, warning } = await file.tokens(20 * MINUTE_MS);
    assert.equal(warning, undefined);
    assert.deepEqual(CODEX_LOGIN.headers(tokens), [
      { name: "authorization", value: `Bearer ${tokens.accessToken}` },
      { name: "chatgpt-account-id", value: "account-1" },
    ]);
    assert.deepEqual(server.requests, []);
    assert.equal(await Deno.readTextFile(path), before);
  });
});

Deno.test("LoginFile.tokens() renews what ends too soon, and keeps the rest of the file and its mode", async () => {
  await withCodex(10 * MINUTE_MS, async ({ file, server, path, read }) => {
    const { tokens } = await file.tokens(20 * MINUTE_MS);
    assert.equal(tokens.accessToken, server.accessToken);
    assert.deepEqual(server.requests, [
      { client_id: "app_EMoamEEZ73f0CkXaXp7hrann", grant_type: "refresh_token", refresh_token: FIRST },
    ]);
    const written = read();
    assert.equal(written.tokens?.refresh_token, server.refreshToken);
    assert.equal(written.tokens?.access_token, server.accessToken);
    assert.equal(written.tokens?.account_id, "account-1");
    assert.equal(written.tokens?.id_token, "id");
    assert.deepEqual(written.kept, { by: "its owner" });
    assert.notEqual(written.last_refresh, "2026-01-01T00:00:00Z");
    assert.equal(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o640);
    await file.tokens(20 * MINUTE_MS);
    assert.equal(server.requests.length, 1);
  });
});

Deno.test("LoginFile.tokens() of several at once renew only once, and a link stays one", async () => {
  await withCodex(-MINUTE_MS, async ({ server, path }) => {
    const link = await Deno.makeTempDir();
    try {
      await Deno.symlink(path, `${link}/auth.json`);
      const files = [path, `${link}/auth.json`, path, path].map((name) =>
        new LoginFile(CODEX_LOGIN, name, server.url)
      );
      const states = await Promise.all(files.map((file) => file.tokens(20 * MINUTE_MS)));
      assert.ok(states.every(({ tokens }) => tokens.accessToken === server.accessToken));
      assert.equal(server.requests.length, 1);
      assert.ok((await Deno.lstat(`${link}/auth.json`)).isSymlink);
    } finally {
      await Deno.remove(link, { recursive: true });
    }
  });
});

Deno.test("LoginFile.tokens() takes what the user's own client has renewed meanwhile", async () => {
  await withCodex(-MINUTE_MS, async ({ file, server, path, read }) => {
    // While it waits for the lock, somebody else renews the file.
    using held = await Deno.open(path);
    await held.lock(true);
    const waiting = file.tokens(20 * MINUTE_MS);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const content = read();
    const access = jwt(Date.now() + 60 * MINUTE_MS, "by its own client");
    const tokens = { ...content.tokens, access_token: access, refresh_token: "newer" };
    await Deno.writeTextFile(`${path}.theirs`, JSON.stringify({ ...content, tokens }));
    await Deno.rename(`${path}.theirs`, path);
    assert.equal((await waiting).tokens.accessToken, access);
    assert.deepEqual(server.requests, []);
  });
});

Deno.test("LoginFile.tokens() says how a refused login is made anew, and shows no token", async () => {
  await withCodex(-MINUTE_MS, async ({ file, server, path }) => {
    const before = await Deno.readTextFile(path);
    server.fault = "refuse";
    await assert.rejects(file.tokens(MINUTE_MS), (error) => {
      assert.ok(error instanceof LocalError);
      assert.equal(error.code, "usage");
      assert.match(
        error.message,
        /ChatGPT login of Codex.*auth\.json.*refused with status 401: already used: …/,
      );
      assert.match(error.message, /log in again with "codex login"/);
      return !error.message.includes("secret");
    });
    server.fault = "fail";
    await assert.rejects(file.tokens(MINUTE_MS), /status 503/);
    server.fault = "nonsense";
    await assert.rejects(file.tokens(MINUTE_MS), LocalError);
    await assert.rejects(
      new LoginFile(CODEX_LOGIN, path, "http://127.0.0.1:1/").tokens(MINUTE_MS),
      /127\.0\.0\.1:1 cannot be reached/,
    );
    assert.equal(await Deno.readTextFile(path), before);
  });
});

Deno.test("LoginFile.tokens() uses a login while it lasts when it cannot be renewed", async () => {
  await withCodex(10 * MINUTE_MS, async ({ file, server, read }) => {
    server.fault = "fail";
    const { tokens, warning } = await file.tokens(20 * MINUTE_MS);
    assert.equal(tokens.accessToken, read().tokens?.access_token);
    assert.match(warning ?? "", /Cannot renew the ChatGPT login.*503/);
  });
});

Deno.test("a login of Claude Code is renewed in its own shape", async () => {
  const folder = await Deno.makeTempDir();
  await using server = startLoginServer(FIRST, 60 * MINUTE_MS);
  const path = `${folder}/.credentials.json`;
  const oauth = {
    accessToken: "old",
    refreshToken: FIRST,
    expiresAt: Date.now() - 1,
    scopes: ["user:inference"],
    subscriptionType: "max",
  };
  try {
    await Deno.writeTextFile(path, JSON.stringify({ claudeAiOauth: oauth, mcpOAuth: { a: 1 } }), {
      mode: 0o600,
    });
    const { tokens } = await new LoginFile(CLAUDE_LOGIN, path, server.url).tokens(20 * MINUTE_MS);
    assert.equal(tokens.accessToken, server.accessToken);
    assert.ok((tokens.expiresAtMs ?? 0) > Date.now() + 59 * MINUTE_MS);
    assert.equal(server.requests[0]?.client_id, "9d1c250a-e61b-44d9-88ed-5944d1962f5e");
    const written = JSON.parse(await Deno.readTextFile(path));
    assert.deepEqual(written.mcpOAuth, { a: 1 });
    assert.deepEqual(written.claudeAiOauth, {
      ...oauth,
      accessToken: server.accessToken,
      refreshToken: server.refreshToken,
      expiresAt: tokens.expiresAtMs,
    });
    assert.deepEqual(CLAUDE_LOGIN.headers(tokens), [
      { name: "authorization", value: `Bearer ${server.accessToken}` },
      { name: "anthropic-beta", value: "oauth-2025-04-20", isListed: true },
    ]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("files that hold no login, or nonsense, are none", () => {
  for (const login of [CODEX_LOGIN, CLAUDE_LOGIN]) {
    const files = [{}, { tokens: [] }, { tokens: { access_token: 5 } }, {
      claudeAiOauth: { accessToken: "" },
    }];
    for (const file of files) assert.equal(login.read(file), undefined);
  }
  const odd = CODEX_LOGIN.read({ tokens: { access_token: "a.b.c", refresh_token: 7 } });
  assert.deepEqual(odd, {
    accessToken: "a.b.c",
    refreshToken: undefined,
    expiresAtMs: undefined,
    accountId: undefined,
  });
});
