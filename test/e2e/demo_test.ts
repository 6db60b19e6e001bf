import assert from "node:assert/strict";
import { recordedEventSchema } from "../../agent-images/agent_event.ts";
import type { ResultDocument } from "../../src/local/run_local_task.ts";
import { assertNothingLeft, sandbox, shell, withFolder } from "../support/sandbox_cli.ts";

Deno.test("the demo ends with Codex's own message, a patch with its file, and nothing left", async () => {
  await withFolder(async (folder) => {
    const { code, stdout, stderr } = await sandbox([
      "run",
      "codex",
      "--demo",
      "--out",
      `${folder}/out`,
      "--bundle",
      `${folder}/b.tar`,
    ]);
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /Done: I wrote hello\.txt/);
    assert.match(stdout, /A hello\.txt/);

    const result = JSON.parse(await Deno.readTextFile(`${folder}/out/result.json`)) as ResultDocument;
    assert.equal(result.outcome, "done");
    assert.equal(result.exitCode, 0);
    assert.deepEqual(result.modelRequests, { forwarded: 2, refused: 0, failed: 0 });
    for (const phase of ["host", "prepare", "network", "vm_start", "boot", "agent", "result"] as const) {
      assert.equal(typeof result.timesMs[phase], "number", phase);
    }
    await shell(
      "git init -q applied; cd applied; git apply ../out/changes.patch; grep 'Hello from a microVM: Linux' hello.txt",
      folder,
    );
    await shell(
      "mkdir tree; tar -C tree -xf out/workspace.tar; diff tree/hello.txt applied/hello.txt",
      folder,
    );
    const lines = (await Deno.readTextFile(`${folder}/out/transcript.jsonl`)).trim().split("\n");
    const events = lines.map((line) => recordedEventSchema.parse(JSON.parse(line)));
    assert.equal(events.at(-1)?.type, "done");
    const call = events.find((event) => event.type === "tool_call");
    const end = events.find((event) => event.type === "tool_result");
    assert.deepEqual([call?.id, end?.exitCode, (end?.durationMs ?? 0) > 0], [end?.id, 0, true]);
    const raw = (await Deno.readTextFile(`${folder}/out/raw.jsonl`)).trim().split("\n");
    assert.equal((JSON.parse(raw.at(-1) ?? "") as { type: string }).type, "turn.completed");
    const listed = await shell("diff out/files/hello.txt applied/hello.txt; tar -tf b.tar", folder);
    const names =
      "result.json changes.patch files/hello.txt transcript.jsonl raw.jsonl network.jsonl console.log";
    assert.equal(listed.trim().split("\n").join(" "), names);
  });
  await assertNothingLeft();
});

Deno.test("--json prints one event a line, the result last", async () => {
  await withFolder(async (folder) => {
    const args = ["run", "codex", "--demo", "--json", "--memory", "768M", "--out", `${folder}/out`];
    const { code, stdout, stderr } = await sandbox(args);
    assert.equal(code, 0, stderr);
    const events = stdout.trim().split("\n").map((line) => JSON.parse(line) as { type: string; at: string });
    assert.equal(events.at(-1)?.type, "result");
    assert.ok(events.some((event) => event.type === "agent"));
  });
});
