import assert from "node:assert/strict";
import { ApiClient } from "../../src/api/client.ts";
import { assertNothingLeft, sandbox, sandboxCommand, withFolder } from "../support/sandbox_cli.ts";

/** The service in a process of its own, wherever its VMs run, and what it logged. */
async function withServe(
  args: readonly string[],
  use: (place: { readonly url: string; readonly token: string }) => Promise<void>,
): Promise<string> {
  const stateDir = await Deno.makeTempDir();
  const child = new Deno.Command("sh", {
    args: ["-c", 'exec "$@" 2>&1', "sh", ...sandboxCommand("serve", "--state", stateDir, ...args)],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const listening = Promise.withResolvers<{ url: string; tokenFile: string }>();
  let text = "";
  const reading = (async (): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      text += decoder.decode(chunk, { stream: true });
      const line = text.split("\n").find((line) =>
        line.includes('"message":"listening"') && line.endsWith("}")
      );
      if (line !== undefined) listening.resolve(JSON.parse(line));
    }
    listening.reject(new Error(`It does not listen: ${text}`));
  })();
  try {
    const { url, tokenFile } = await listening.promise;
    await use({ url, token: (await Deno.readTextFile(tokenFile)).trim() });
    child.kill("SIGTERM");
    assert.equal((await child.status).code, 0, text);
  } finally {
    try {
      child.kill("SIGKILL");
    } catch {
      // it has ended, as it should
    }
    await reading;
    await Deno.remove(stateDir, { recursive: true });
  }
  return text;
}

Deno.test("a task and a session go through the service from end to end, with the token's owner alone", async () => {
  const log = await withServe(["--listen", "127.0.0.1:0", "--log-format", "json"], async ({ url, token }) => {
    const client = new ApiClient({ baseUrl: url, token });
    const { id } = await client.submit({ agent: "shell", prompt: "echo hello > made.txt; echo done" });
    const types = new Set<string>();
    for await (const event of client.events(id)) types.add(event.type);
    assert.ok(types.has("phase") && types.has("agent") && types.has("result"), [...types].join(" "));
    const env = { PADDOCK_SERVER: url, PADDOCK_API_TOKEN: token };
    const shown = JSON.parse((await sandbox(["task", "show", id, "--json"], env)).stdout) as {
      state: string;
    };
    assert.equal(shown.state, "succeeded");
    const patch = await fetch(`${url}/v1/tasks/${id}/patch`, {
      headers: { authorization: `Bearer ${token}` },
    });
    assert.match(await patch.text(), /^\+hello$/m);

    const kept = await client.submit({ agent: "shell", prompt: "true", keep: true });
    for await (const _ of client.events(kept.id));
    const run = await sandbox(["exec", kept.id, "--", "sh", "-c", "echo inside; exit 7"], env);
    assert.deepEqual([run.code, run.stdout], [7, "inside\n"]);
    assert.equal((await sandbox(["rm", kept.id], env)).code, 0);
    await withFolder(async (folder) => {
      await Deno.writeTextFile(`${folder}/in.txt`, "from here\n");
      const started = await sandbox(["start", "--ttl", "10m", "--repo", folder], env);
      assert.equal(started.code, 0, started.stderr);
      const session = started.stdout.trim();
      const shown = await sandbox(["exec", session, "--", "cat", "in.txt"], env);
      assert.deepEqual([shown.code, shown.stdout], [0, "from here\n"], shown.stderr);
      assert.equal((await sandbox(["rm", session], env)).code, 0);
    });
    const other = await fetch(`${url}/v1/tasks/${id}`, { headers: { authorization: `Bearer ${token}x` } });
    assert.equal(other.status, 401);
    await other.body?.cancel();
    assert.match(await (await fetch(url)).text(), /<html/);
    const metrics = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${token}` } });
    const measured = await metrics.text();
    assert.match(measured, /^paddock_tasks\{state="succeeded"\} [1-9]/m);
    // The monitors said it in the moment before they were ended
    assert.match(measured, /^paddock_vm_ends_total\{reason="killed"\} [1-9]/m);
    assert.match(measured, /^paddock_vm_exits_total\{cause="mmio"\} [1-9]/m);
    for (const over of [id, kept.id]) await client.remove(over);
  });
  await assertNothingLeft();
  assert.match(log, /"method":"POST","path":"\/v1\/tasks","status":202/);
  assert.match(log, /"message":"stopped"/);
});
