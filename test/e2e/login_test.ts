import assert from "node:assert/strict";
import { jwt, startLoginServer } from "../support/login_server.ts";
import { startModelServer } from "../support/model_server/model_server.ts";
import { scriptPrefix } from "../support/model_server/script.ts";
import { assertNothingLeft, onVmHost, startSandbox, withFolder } from "../support/sandbox_cli.ts";

/** In every token of this test; the pattern does not match itself. */
const SECRET = "secret-[s]ig|secret-[r]efresh";
/** Not with `grep -r`, which follows the agent's links to its own program. */
const SEARCH_GUEST = `echo searching; env | grep -aE '${SECRET}' && echo FOUND in env
  cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -aE '${SECRET}' && echo FOUND in proc
  find /home /tmp /etc /workspace /run /var -type f -exec grep -aE '${SECRET}' {} + 2>/dev/null && echo FOUND in files
  echo searched`;
const SEARCH_STATE = `find "$STATE" -type f -exec grep -laE '${SECRET}' {} + ; echo searched`;

Deno.test("a login is renewed on this side and stays there: not in the guest, the events, the store or the results", async () => {
  const model = startModelServer();
  await using provider = startLoginServer("secret-refresh-0", 3_600_000);
  await withFolder(async (folder) => {
    const expired = jwt(Date.now() - 1000, "expired");
    const tokens = { access_token: expired, refresh_token: "secret-refresh-0", account_id: "account-7" };
    await Deno.writeTextFile(`${folder}/auth.json`, JSON.stringify({ tokens }), { mode: 0o600 });
    const script = scriptPrefix({ commands: [SEARCH_GUEST], finalText: "Searched." });
    const words = ["--login", "--model-url", `${model.url}${script}/v1`, "--out", `${folder}/out`, "--json"];
    const cli = startSandbox(["run", "codex", "search", ...words], {
      CODEX_HOME: folder,
      CODEX_REFRESH_TOKEN_URL_OVERRIDE: provider.url,
    });
    await cli.sees('"type":"tool_result"');
    assert.equal(await onVmHost(SEARCH_STATE), "searched\n");
    const { code, stdout, stderr } = await cli.result;
    assert.equal(code, 0, stdout + stderr);
    assert.match(stderr, /Using the ChatGPT login of Codex in .*auth\.json/);
    assert.ok(stdout.includes('"output":"searching\\nsearched\\n"'), stdout);

    assert.equal(provider.requests.length, 1);
    const kept = JSON.parse(await Deno.readTextFile(`${folder}/auth.json`));
    assert.equal(kept.tokens.refresh_token, provider.refreshToken);
    assert.ok(model.requests.length >= 2);
    for (const { headers, body } of model.requests) {
      assert.equal(headers.authorization, `Bearer ${provider.accessToken}`);
      assert.equal(headers["chatgpt-account-id"], "account-7");
      assert.doesNotMatch(body, new RegExp(SECRET));
    }
    assert.doesNotMatch(stdout + stderr, new RegExp(SECRET));
    const inResults = await new Deno.Command("grep", { args: ["-rlaE", SECRET, `${folder}/out`] }).output();
    assert.equal(new TextDecoder().decode(inResults.stdout), "");
  }).finally(() => model.close());
  await assertNothingLeft(30_000);
});
