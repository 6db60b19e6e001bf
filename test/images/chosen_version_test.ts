import assert from "node:assert/strict";
import { spec as codex } from "../../agent-images/codex/agent.ts";
import { spec as openclaw } from "../../agent-images/openclaw/agent.ts";
import { parseUpdateArguments } from "../../src/cli/commands/images.ts";
import { currentSpec, removeChoice, withChoice, writeChoice } from "../../src/images/chosen_version.ts";
import { checkTrial } from "../../src/session/try_image.ts";
import { withFolder } from "../support/sandbox_cli.ts";

const NPM = codex.npm.map((wanted) => ({ ...wanted, version: "9.9.9-linux-x64" }));

Deno.test("a chosen version is used until it is taken back, or the pinned one changes", async () => {
  await withFolder(async (cache) => {
    assert.equal(await currentSpec(cache, codex), codex);
    await writeChoice(cache, "codex", { pinned: codex.version, version: "9.9.9", npm: NPM });
    const chosen = await currentSpec(cache, codex);
    assert.deepEqual([chosen.version, chosen.npm[0]?.version], ["9.9.9", "9.9.9-linux-x64"]);
    assert.deepEqual(chosen.textFiles, codex.textFiles);
    const newer = { ...codex, version: "10.0.0" };
    assert.equal(await currentSpec(cache, newer), newer);
    await removeChoice(cache, "codex");
    await removeChoice(cache, "codex");
    assert.equal(await currentSpec(cache, codex), codex);
  });
});

Deno.test("a chosen tree of packages has its own lock, and what is removed from it stays so", () => {
  const choice = { pinned: openclaw.version, version: "9.9.9", npm: openclaw.npm, treeFolder: "versions/x" };
  const { npmTree } = withChoice("/cache", openclaw, choice);
  assert.equal(npmTree?.folder, "/cache/versions/x");
  assert.deepEqual([npmTree?.to, npmTree?.remove], [openclaw.npmTree?.to, openclaw.npmTree?.remove]);
});

Deno.test("checkTrial() wants the version itself among what the agent said", () => {
  for (const output of ["codex-cli 1.2.3", "1.2.3 (Claude Code)", "OpenClaw v1.2.3", "noise\n1.2.3"]) {
    checkTrial({ exitCode: 0, output }, "1.2.3");
  }
  for (const output of ["", "11.2.3", "1.2.30", "1.2.3-beta", "1.2"]) {
    assert.throws(() => checkTrial({ exitCode: 0, output }, "1.2.3"), /does not run/, output);
  }
  assert.throws(() => checkTrial({ exitCode: 127, output: "1.2.3" }, "1.2.3"), /exit code 127/);
  assert.throws(() => checkTrial({ exitCode: null, output: "1.2.3" }, "1.2.3"), /exit code null/);
});

Deno.test("images update takes a version for one agent only", () => {
  assert.deepEqual(parseUpdateArguments([]), { agents: [], version: undefined, toPinned: false });
  assert.equal(parseUpdateArguments(["codex", "--to", "1.2.3"]).version, "1.2.3");
  for (const args of [["--to", "1.2.3"], ["a", "b", "--to", "1.2.3"], ["a", "--to", "1.2.3", "--pinned"]]) {
    assert.throws(() => parseUpdateArguments(args), /--to takes a version of one agent/);
  }
});
