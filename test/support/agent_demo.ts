/**
 * One agent's demo on a repository, end to end.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { TimedTaskEvent } from "../../src/api/client.ts";
import type { ResultDocument } from "../../src/local/run_local_task.ts";
import { assertNothingLeft, sandbox, shell, withFolder } from "./sandbox_cli.ts";

const MAKE_REPOSITORY = `mkdir repo; cd repo; git init -q -b main; git config user.name owner
  echo one > kept.txt; git add -A; git commit -qm first; echo local >> kept.txt`;

/** What differs between agents. */
export interface AgentCase {
  readonly name: string;
  /** what it calls the tool that runs commands */
  readonly tool: string;
  /** options of its run */
  readonly args?: readonly string[];
}

/** Runs the demo and checks its events, its result, and that the patch gives the guest's tree. */
export async function checkDemo({ name, tool, args = [] }: AgentCase): Promise<void> {
  await withFolder(async (folder) => {
    await shell(MAKE_REPOSITORY, folder);
    const places = ["--repo", `${folder}/repo`, "--out", `${folder}/out`];
    const { code, stdout, stderr } = await sandbox(["run", name, "--demo", "--json", ...places, ...args]);
    assert.equal(code, 0, stdout + stderr);
    const events = stdout.trim().split("\n").map((line) => JSON.parse(line) as TimedTaskEvent);
    const agentEvents = events.flatMap((event) => event.type === "agent" ? [event.event] : []);
    const call = agentEvents.find((event) => event.type === "tool_call");
    assert.equal(call?.name, tool);
    assert.match(call?.input ?? "", /hello\.txt/);
    const result = agentEvents.find((event) => event.type === "tool_result");
    assert.match(result?.output ?? "", /Hello from a microVM: Linux/);
    assert.ok(agentEvents.some((event) => event.type === "done"));

    const document = JSON.parse(await Deno.readTextFile(`${folder}/out/result.json`)) as ResultDocument;
    assert.equal(document.outcome, "done");
    assert.equal(document.finalMessage, "Done: I wrote hello.txt with a greeting from inside the microVM.");
    assert.deepEqual(document.modelRequests, { forwarded: 2, refused: 0, failed: 0 });
    assert.ok((document.usage?.outputTokens ?? 0) >= 20, JSON.stringify(document.usage));
    await shell("cp -a repo applied; cd applied; git apply ../out/changes.patch", folder);
    await shell("mkdir guest; tar -C guest -xf out/workspace.tar", folder);
    await shell(
      "diff -r --exclude=.git applied guest; grep 'Hello from a microVM' guest/hello.txt",
      folder,
    );
  });
  await assertNothingLeft();
}
