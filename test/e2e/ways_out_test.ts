import assert from "node:assert/strict";
import { startModelServer } from "../support/model_server/model_server.ts";
import { scriptPrefix } from "../support/model_server/script.ts";
import {
  assertNothingLeft,
  hostKind,
  onVmHost,
  sandbox,
  startSandbox,
  VMM_PATTERN,
  withFolder,
} from "../support/sandbox_cli.ts";

/** The agent runs one command, then waits for a model that has gone silent. */
const WAIT = `/fault/second-silent${scriptPrefix({ commands: ["echo hold"], finalText: "Held." })}`;

/** Starts a run and calls `use` once the agent's command has run in the guest. */
async function withRunning(
  use: (cli: ReturnType<typeof startSandbox>, folder: string) => Promise<void>,
  args: readonly string[] = [],
): Promise<void> {
  const server = startModelServer();
  await withFolder(async (folder) => {
    const command = [
      "run",
      "codex",
      "wait",
      "--model-url",
      `${server.url}${WAIT}/v1`,
      "--out",
      `${folder}/out`,
    ];
    const cli = startSandbox([...command, "--json", ...args], { OPENAI_API_KEY: "sk-e2e" });
    await cli.sees('"type":"tool_result"');
    await use(cli, folder);
  }).finally(() => server.close());
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`${signal} during a run stops the guest, removes everything, and ends with 130`, async () => {
    await withRunning(async (cli, folder) => {
      const start = performance.now();
      cli.kill(signal);
      assert.equal((await cli.result).code, 130);
      assert.ok(performance.now() - start < 30_000);
      await assert.rejects(Deno.stat(`${folder}/out`), Deno.errors.NotFound);
    });
    await assertNothingLeft();
  });
}

Deno.test("kill -9 of the command line leaves nothing once somebody has looked", async () => {
  await withRunning(async (cli) => {
    cli.kill("SIGKILL");
    await cli.result;
    if (await hostKind() === "native") {
      await sandbox(["run", "codex", "--demo", "--out", await Deno.makeTempDir()]);
    }
  });
  // In the emulated host the server notices that nobody follows the task.
  await assertNothingLeft(60_000);
});

Deno.test("kill -9 of the VMM ends the run with a host failure and leaves nothing", async () => {
  await withRunning(async (cli) => {
    await onVmHost(`for pid in $(ls /proc | grep '^[0-9]*$'); do
      tr '\\0' ' ' < /proc/$pid/cmdline 2>/dev/null | grep -qE '${VMM_PATTERN}' && kill -9 $pid; done; true`);
    const { code, stdout } = await cli.result;
    assert.equal(code, 3, stdout);
    assert.match(stdout, /VM ended while the agent ran: VMM process ended unexpectedly/);
  });
  await assertNothingLeft();
});

Deno.test("a run that reaches its time limit ends with 4 and still gives what the agent left", async () => {
  await withRunning(async (cli, folder) => {
    const { code } = await cli.result;
    assert.equal(code, 4);
    const result = JSON.parse(await Deno.readTextFile(`${folder}/out/result.json`)) as { outcome: string };
    assert.equal(result.outcome, "timeout");
    await Deno.stat(`${folder}/out/workspace.tar`);
  }, ["--timeout", "30s"]);
  await assertNothingLeft();
});

Deno.test("bad usage is one line and exit code 2, without starting anything", async () => {
  const cases = [
    ["run"],
    ["run", "hal", "open the doors", "--demo"],
    ["run", "codex", "x", "--repo", "/no/such/folder", "--demo"],
    ["run", "codex", "x", "--bogus"],
    ["boot", "-k", "/no/such/kernel"],
    ["boot"],
    ["frobnicate"],
  ];
  for (const args of cases) {
    const { code, stderr } = await sandbox(args);
    assert.equal(code, 2, stderr);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
  }
  const { code, stderr } = await sandbox(["run", "codex", "x"], {
    OPENAI_API_KEY: "",
    CODEX_HOME: "/nowhere",
  });
  assert.equal(code, 2);
  assert.match(stderr, /OPENAI_API_KEY is not set.*--demo/);
});
