import assert from "node:assert/strict";
import type { ResultDocument } from "../../src/local/run_local_task.ts";
import { assertNothingLeft, sandbox, shell, withFolder } from "../support/sandbox_cli.ts";

const MAKEFILE = "test:\n\tid -un; pwd; cat kept.txt\n\techo made > new.txt\n\t@test ! -e forbidden\n";

Deno.test("a shell command runs on a repository, without a model or a key", async () => {
  await withFolder(async (folder) => {
    await shell("mkdir repo; cd repo; git init -q -b main; echo one > kept.txt", folder);
    await Deno.writeTextFile(`${folder}/repo/Makefile`, MAKEFILE);
    const run = async (command: string, out: string): Promise<ResultDocument> => {
      const places = ["--repo", `${folder}/repo`, "--out", `${folder}/${out}`];
      const { code, stdout, stderr } = await sandbox(["run", "shell", command, ...places]);
      const document = JSON.parse(await Deno.readTextFile(`${folder}/${out}/result.json`)) as ResultDocument;
      assert.equal(code, document.outcome === "done" ? 0 : 1, stdout + stderr);
      return document;
    };
    const done = await run("make test", "done");
    assert.deepEqual([done.outcome, done.exitCode, done.modelUsage], ["done", 0, null]);
    assert.equal(
      await shell("cat done/raw.jsonl done/files/new.txt", folder),
      "id -un; pwd; cat kept.txt\nagent\n/workspace\none\necho made > new.txt\nmade\n",
    );
    const failed = await run("touch forbidden; make test", "failed");
    assert.deepEqual([failed.outcome, failed.exitCode], ["agent_failed", 2]);
    assert.match(failed.cause, /exited with code 2.*Error 1/s);
  });
  await assertNothingLeft();
});
