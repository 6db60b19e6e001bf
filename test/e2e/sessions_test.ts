import assert from "node:assert/strict";
import type { ResultDocument } from "../../src/local/run_local_task.ts";
import type { SessionView } from "../../src/api/client.ts";
import { startModelServer } from "../support/model_server/model_server.ts";
import { type PtyChild, startOnPty } from "../support/pty.ts";
import {
  assertNothingLeft,
  sandbox,
  sandboxCommand,
  shell,
  startSandbox,
  withFolder,
} from "../support/sandbox_cli.ts";

/** Runs the demo and keeps its session; gives the session's id. */
async function keptSession(folder: string): Promise<string> {
  const args = ["run", "codex", "--demo", "--json", "--keep", "--memory", "768M", "--out", `${folder}/out`];
  const { code, stdout, stderr } = await sandbox(args);
  assert.equal(code, 0, stderr);
  const last = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as { result: ResultDocument };
  const id = last.result.keptSession ?? "";
  assert.match(id, /^[a-z0-9]{10}$/);
  return id;
}

async function sessions(): Promise<SessionView[]> {
  const { code, stdout, stderr } = await sandbox(["ls", "--json"]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as SessionView[];
}

async function inSession(
  id: string,
  script: string,
): Promise<{ code: number; stdout: string; stderr: string }> {
  return await sandbox(["exec", id, "--", "sh", "-c", script]);
}

/** Waits until a loopback port of this machine says something, and gives it. */
async function hear(port: number): Promise<string> {
  for (let tries = 0; tries < 30; tries++) {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    const text = await new Response(conn.readable).text().catch(() => "");
    if (text !== "") return text;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  return "";
}

Deno.test("a kept session takes commands and files, is listed, stopped and removed", async (t) => {
  await withFolder(async (folder) => {
    const id = await keptSession(folder);
    try {
      await t.step("it is listed, and runs", async () => {
        const found = (await sessions()).find((session) => session.id === id);
        assert.deepEqual([found?.state, found?.isKept, found?.agent], ["running", true, "codex"]);
      });
      await t.step("commands see what the agent left, as the agent's user", async () => {
        const { code, stdout, stderr } = await inSession(
          id,
          "id -un; pwd; cat hello.txt; echo oops >&2; exit 7",
        );
        assert.equal(code, 7);
        assert.match(stdout, /^agent\n\/workspace\n\S/);
        assert.match(stderr, /oops/);
      });
      await t.step("stdin reaches a command, and --user and --env do what they say", async () => {
        const command = sandboxCommand("exec", "--user", "root", "--env", "A=b c", id, "--", "sh", "-c");
        const quoted = [...command, 'id -u; echo "$A"; wc -c'].map((word) => `'${word}'`).join(" ");
        const text = await shell(`head -c 3000000 /dev/zero | ${quoted}`, folder);
        assert.equal(text, "0\nb c\n3000000\n");
      });
      await t.step("files go in and come out, links too", async () => {
        await shell(
          "mkdir -p in/deep; printf one > in/deep/a; ln -s deep/a in/link; chmod 750 in/deep",
          folder,
        );
        assert.equal((await sandbox(["cp", `${folder}/in`, `${id}:/workspace/`])).code, 0);
        assert.equal((await inSession(id, "cat in/link; printf two >> in/deep/a; rm -f in/x")).stdout, "one");
        assert.equal((await sandbox(["cp", `${id}:in`, `${folder}/out-tree`])).code, 0);
        const seen = await shell(
          "cat out-tree/link; readlink out-tree/link; stat -c %a out-tree/deep",
          folder,
        );
        assert.equal(seen, "onetwodeep/a\n750\n");
        assert.equal((await sandbox(["cp", `${id}:/workspace/in/deep/a`, `${folder}/single`])).code, 0);
        assert.equal(await Deno.readTextFile(`${folder}/single`), "onetwo");
        const missing = await sandbox(["cp", `${id}:/nowhere`, folder]);
        assert.deepEqual([missing.code, /no "\/nowhere"/.test(missing.stderr)], [2, true]);
      });
      await t.step("a published port leads to the guest's loopback interface", async () => {
        const server = startSandbox([
          "exec",
          id,
          "--",
          "sh",
          "-c",
          "echo up; while :; do echo welcome | nc -l -p 8000; done",
        ]);
        const publisher = startSandbox(["publish", id, "0:8000"]);
        await Promise.all([server.sees("up"), publisher.sees("8000 of session")]);
        const port = await portOf(publisher.pid);
        assert.equal(await hear(port), "welcome\n");
        for (const child of [publisher, server]) child.kill("SIGTERM");
        assert.equal((await publisher.result).code, 0);
        await server.result;
      });
      await t.step("its logs are there", async () => {
        assert.equal((await sandbox(["logs", id])).code, 0);
        const { stdout } = await sandbox(["logs", id, "--network"]);
        assert.match(stdout, /"type":"policy"/);
      });
      await t.step("stopped, its disk stays and its VM is gone", async () => {
        assert.equal((await sandbox(["stop", id])).code, 0);
        assert.equal((await sessions()).find((session) => session.id === id)?.state, "stopped");
        const { code, stderr } = await inSession(id, "true");
        assert.deepEqual([code, /is stopped/.test(stderr)], [3, true], stderr);
      });
    } finally {
      const { code, stderr } = await sandbox(["rm", id]);
      assert.equal(code, 0, stderr);
    }
    assert.ok(!(await sessions()).some((session) => session.id === id));
  });
  await assertNothingLeft(30_000);
});

Deno.test("without a prompt the agent's own interface is on the terminal, and its work in the results", async () => {
  const server = startModelServer({ requiredKey: "sk-e2e" });
  await withFolder(async (folder) => {
    const command = sandboxCommand(
      "run",
      "codex",
      "--model-url",
      `${server.url}/v1`,
      "--out",
      `${folder}/out`,
    );
    const env = { OPENAI_API_KEY: "sk-e2e", TERM: "xterm-256color" };
    await using pty = startOnPty(`stty rows 30 cols 100; ${command.join(" ")}`, env);
    // It asks its terminal where the cursor is
    await pty.expect(new RegExp("\x1b\\[6n"), { limitMs: 120_000 });
    await pty.type("\x1b[1;1R");
    const ready = await pty.expect(/Ask Codex to do anything/, { limitMs: 60_000 });
    await pty.type("write a greeting");
    await typed(pty, /greeting/, ready);
    await pty.type("\r");
    const done = await pty.expect(/Worked for/, { from: ready, limitMs: 60_000 });
    await pty.type("/quit");
    await typed(pty, /quit/, done);
    await pty.type("\r");
    await pty.expect(/Results are in/, { from: done, limitMs: 60_000 });
    assert.equal((await pty.status).code, 0);
    await shell('grep -q Hello out/files/hello.txt; grep -q \'"outcome": "done"\' out/result.json', folder);
  }).finally(() => server.close());
  await assertNothingLeft(10_000);
});

/** Waits until what was typed is shown: a key that comes too early is lost in the drawing of the last one. */
async function typed(pty: PtyChild, pattern: RegExp, from: number): Promise<void> {
  await pty.expect(pattern, { from, limitMs: 30_000 });
  await new Promise((resolve) => setTimeout(resolve, 1000));
}

/** The loopback port that a process listens on. */
async function portOf(pid: number): Promise<number> {
  const text = await shell(`ss -Hltnp | grep 'pid=${pid},' | awk '{print $4}'`, "/");
  return Number(text.trim().split(":").at(-1));
}
