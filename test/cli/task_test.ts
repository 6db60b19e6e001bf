import assert from "node:assert/strict";
import { createApp } from "../../src/api/app.ts";
import type { TaskRunner, TaskService } from "../../src/api/task_service.ts";
import { readTar } from "../../src/session/tar_reader.ts";
import { readFileChunks } from "../../src/session/workspace_scan.ts";
import { shell, withFolder } from "../support/sandbox_cli.ts";
import { endedAs, TEST_TOKEN, withService } from "../support/task_service.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

interface CliRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Setup {
  readonly folder: string;
  readonly service: TaskService;
  readonly url: string;
  /** Runs a command line against the server. */
  readonly cli: (args: readonly string[], env?: Record<string, string>) => Promise<CliRun>;
}

/** Says what is in its workspace, and leaves a patch. */
const runner: TaskRunner = async ({ folder, workspaceTar, request, onEvent }) => {
  const names: string[] = [];
  if (workspaceTar !== undefined) {
    for await (const { name } of readTar(readFileChunks(workspaceTar))) names.push(name);
  }
  const text = `${request.prompt} with ${names.filter((name) => !name.startsWith(".git")).join(" ")}`;
  onEvent({ type: "agent", event: { v: 1, at: new Date().toISOString(), type: "message", text } });
  await Deno.writeTextFile(`${folder}/changes.patch`, "the patch");
  return endedAs(request.prompt === "fail" ? "agent_failed" : "done");
};

async function withServer(use: (setup: Setup) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    await withService({ runner, isDurable: true }, async ({ service }) => {
      const app = createApp({ service, token: TEST_TOKEN });
      await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
      const url = `http://127.0.0.1:${server.addr.port}`;
      const cli: Setup["cli"] = async (args, env = {}) => {
        const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
          args: ["run", "--quiet", "--no-lock", "--cached-only", "--no-check", "-A", MAIN, ...args],
          cwd: folder,
          env: {
            PADDOCK_SERVER: url,
            PADDOCK_API_TOKEN: TEST_TOKEN,
            PADDOCK_STATE: `${folder}/state`,
            ...env,
          },
        }).output();
        const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
        return { code, stdout: text(stdout), stderr: text(stderr) };
      };
      await use({ folder, service, url, cli });
    });
  });
}

Deno.test("a task is submitted, shown, watched, listed, fetched and removed from the command line", async () => {
  await withServer(async ({ folder, cli, service }) => {
    await shell("mkdir r; cd r; git init -q; echo 1 > a.txt; git add -A; git commit -qm one", folder);
    const submitted = await cli(["task", "submit", "shell", "look", "--repo", "r", "--label", "team:x"]);
    assert.equal(submitted.code, 0, submitted.stderr);
    const id = submitted.stdout.trim();
    const watched = await cli(["task", "watch", id]);
    assert.deepEqual([watched.code, watched.stdout.includes("look with a.txt")], [0, true], watched.stdout);
    assert.match((await cli(["task", "show", id])).stdout, /State {4}succeeded/);
    assert.match(
      (await cli(["task", "list", "--label", "team:x"])).stdout,
      new RegExp(`${id} +succeeded +shell`),
    );
    assert.equal((await cli(["task", "list", "--label", "team:y", "--json"])).stdout.trim(), "[]");
    const fetched = await cli(["task", "result", id, "--out", "out", "--bundle", "all.tar"]);
    assert.equal(fetched.code, 0, fetched.stderr);
    assert.equal(await Deno.readTextFile(`${folder}/out/changes.patch`), "the patch");
    const document = JSON.parse(await Deno.readTextFile(`${folder}/out/result.json`)) as { outcome: string };
    assert.equal(document.outcome, "done");
    assert.ok((await Deno.stat(`${folder}/all.tar`)).size > 0);
    assert.equal((await cli(["task", "cancel", id])).code, 0);
    assert.equal((await cli(["task", "rm", id])).code, 0);
    assert.equal(service.list({ limit: 9 }).tasks.length, 0);
    const gone = await cli(["task", "show", id]);
    assert.deepEqual([gone.code, gone.stderr.includes("no task")], [3, true], gone.stderr);
  });
});

Deno.test("tasks of a file are submitted several at once; --watch gives the outcome's exit code", async () => {
  await withServer(async ({ folder, cli, service }) => {
    const lines = Array.from(
      { length: 20 },
      (_, n) => JSON.stringify({ agent: "shell", prompt: `task ${n}` }),
    );
    await Deno.writeTextFile(`${folder}/tasks.jsonl`, `${lines.join("\n")}\n`);
    const all = await cli(["task", "submit", "--from", "tasks.jsonl", "--parallel", "5"]);
    assert.equal(all.code, 0, all.stderr);
    assert.equal(new Set(all.stdout.trim().split("\n")).size, 20);
    assert.equal(service.list({ limit: 99 }).tasks.length, 20);
    const failed = await cli(["task", "submit", "shell", "fail", "--watch"]);
    assert.equal(failed.code, 1, failed.stderr);
    await Deno.writeTextFile(`${folder}/bad.jsonl`, "{}\nnot json\n");
    const bad = await cli(["task", "submit", "--from", "bad.jsonl"]);
    assert.deepEqual([bad.code, /Line 2 is not a task/.test(bad.stderr)], [2, true], bad.stderr);
  });
});

Deno.test("run goes to a server that is named, and leaves its results here", async () => {
  await withServer(async ({ folder, cli, url, service }) => {
    const env = { PADDOCK_SERVER: "", PADDOCK_API_TOKEN: "" };
    const options = ["--server", url, "--token", TEST_TOKEN, "--out", "out"];
    const ran = await cli(["run", "shell", "do it", ...options], env);
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /do it with/);
    assert.equal(await Deno.readTextFile(`${folder}/out/changes.patch`), "the patch");
    assert.equal(service.list({ limit: 9 }).tasks.length, 0);
    const listed = await cli(["ls", "--json", `--server=${url}`, `--token=${TEST_TOKEN}`], env);
    assert.equal(listed.stdout.trim(), "[]", listed.stderr);
  });
});

Deno.test("what is wrong with a server or its token is said", async () => {
  await withServer(async ({ cli, url }) => {
    const cases: [string[], Record<string, string>, number, RegExp][] = [
      [["task", "list", "--server", "ftp://x", "--token", "t"], {}, 2, /http or https/],
      [["task", "list", "--server", "http://example.org", "--token", "t"], {}, 2, /https only/],
      [["task", "list", "--server"], {}, 2, /--server needs a value/],
      [["task", "list", "--server", url, "--token", "wrong"], {}, 3, /token/],
      [["task", "list", "--server", "http://127.0.0.1:1", "--token", "t"], {}, 3, /Cannot reach/],
      [["task", "what"], {}, 2, /submit\|list/],
      [["task", "submit", "shell"], {}, 2, /prompt/],
      [["run", "shell", "x", "--demo"], {}, 2, /scripted model/],
    ];
    for (const [args, env, code, why] of cases) {
      const ran = await cli(args, env);
      assert.equal(ran.code, code, `${args.join(" ")}: ${ran.stderr}`);
      assert.match(ran.stderr, why);
    }
  });
});
