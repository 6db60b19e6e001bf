import assert from "node:assert/strict";
import { ApiError } from "../../src/api/client.ts";
import { spec } from "../../agent-images/shell/agent.ts";
import { openLocalHost } from "../../src/local/local_host.ts";
import { assertNothingLeft } from "../support/sandbox_cli.ts";

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const text = async (stream: ReadableStream<Uint8Array>): Promise<string> =>
  await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).text();

const SERVER =
  `while :; do printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 6\\r\\nSet-Cookie: a=b\\r\\n\\r\\nhello\\n' |
  nc -l -p 8000 >> /tmp/asked; done`;
const COUNTER = "while :; do echo x >> /tmp/ticks; sleep 0.2; done";

Deno.test("a session that was asked for runs commands, pauses, serves a port, and ends with its time", async (t) => {
  const { signal } = new AbortController();
  const host = await openLocalHost({ spec, isKept: true, onProgress: () => {}, signal });
  await using _ = host;
  const { client } = host;
  const { id, state } = await client.createSession({ memoryMib: 256, ttlMs: 600_000, env: { A: "1 2" } });
  assert.equal(state, "starting");
  const run = async (script: string): Promise<string> => {
    const result = await client.runCommand(id, { argv: ["sh", "-c", script] });
    assert.equal(result.exitCode, 0, result.stderr);
    return result.stdout;
  };
  try {
    assert.equal((await client.startedSession(id)).state, "running");
    await t.step("a command has its user, folder and variables", async () => {
      assert.equal(await run('id -un; pwd; echo "$A"'), "agent\n/workspace\n1 2\n");
    });
    await t.step("files go in and out, and are listed", async () => {
      const bytes = new Uint8Array(100_000).map((_, index) => index * 7);
      await client.writeFile(id, "/workspace/new/run me", bytes, 0o755);
      assert.equal(await run("test -x 'new/run me' && stat -c '%U %s' 'new/run me'"), "agent 100000\n");
      const back = await new Response(
        await client.readFile(id, "/workspace/new/run me") as ReadableStream<Uint8Array<ArrayBuffer>>,
      ).bytes();
      assert.deepEqual(back, bytes);
      const { entries } = await client.listFolder(id, "/workspace/new");
      assert.deepEqual(entries.map(({ name, type, sizeBytes }) => [name, type, sizeBytes]), [[
        "run me",
        "file",
        100_000,
      ]]);
    });
    await t.step("a paused guest does nothing, and goes on", async () => {
      const counter = client.exec(id, { argv: ["sh", "-c", COUNTER] });
      await delay(2000);
      await client.pauseSession(id);
      await assert.rejects(
        client.runCommand(id, { argv: ["true"] }),
        (error: unknown) => error instanceof ApiError && error.status === 409,
      );
      await delay(5000);
      assert.equal((await client.resumeSession(id)).state, "running");
      const ticks = Number(await run("wc -l < /tmp/ticks"));
      assert.ok(ticks > 0 && ticks < 20, `${ticks} ticks of 0.2 s in 2 s and a pause of 5 s`);
      const clock = Number(await run("date +%s"));
      assert.ok(Math.abs(clock - Date.now() / 1000) < 5, `the guest's clock is ${clock}`);
      counter.kill();
    });
    await t.step("a server in it is asked by HTTP", async () => {
      const server = client.exec(id, { argv: ["sh", "-c", SERVER] });
      let body = "";
      for (let tries = 0; tries < 20 && body === ""; tries++) {
        const response = await client.requestPort(id, 8000, "/a?b");
        if (!response.ok) {
          assert.equal(response.status, 502, await response.text());
          await delay(500);
        } else {
          assert.equal(response.headers.get("set-cookie"), null);
          body = await text(response.body ?? new Blob([]).stream());
        }
      }
      assert.equal(body, "hello\n");
      const asked = await run("head -20 /tmp/asked");
      assert.match(asked, /^GET \/a\?b HTTP\/1\.1\r\n/);
      assert.doesNotMatch(asked, /authorization|Bearer/i);
      server.kill();
    });
    await t.step("at the end of its time it is gone", async () => {
      await client.extendSession(id, 10_000);
      for (let tries = 0; tries < 60 && (await client.sessions()).some((view) => view.id === id); tries++) {
        await delay(500);
      }
      assert.ok(!(await client.sessions()).some((view) => view.id === id));
    });
  } finally {
    await client.removeSession(id).catch(() => {/* its time was over */});
  }
  await assertNothingLeft(30_000);
});
