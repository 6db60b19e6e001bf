import assert from "node:assert/strict";
import { ApplyTarget } from "../../src/local/apply_result.ts";
import { shell, withFolder } from "../support/sandbox_cli.ts";

const START =
  `git init -q -b main repo; cd repo; printf 'one\\ntwo\\n' > a; echo b > b; git add -A; git commit -qm first
  echo dirty >> a; echo staged > s; git add s; echo new > new`;
const LOOK =
  "cd repo; git status --porcelain; git rev-parse HEAD; cat a s new; git branch --format='%(refname:short)'";

const NO_COMMITS = { commits: null, packPath: "" } as const;

Deno.test("--apply puts the result on a new branch and leaves work tree, index and branch alone", async () => {
  await withFolder(async (folder) => {
    await shell(START, folder);
    const before = await shell(LOOK, folder);
    const target = await ApplyTarget.open(`${folder}/repo`, undefined);
    await shell(
      `mkdir x y; cp repo/a repo/b repo/s repo/new x/; cp x/* y/; echo agent >> y/a; rm y/b; echo more > y/more
       git diff --no-index --binary x y | sed -E 's#([ab])/[xy]/#\\1/#g' > c.patch || true`,
      folder,
    );
    const stat = await target.diffStat(`${folder}/c.patch`);
    assert.ok(stat.some((line) => /a +\| +1 \+/.test(line)), stat.join("\n"));
    const options = { id: "task1", title: "codex: Do it\x1b[2J\nnow", patchPath: `${folder}/c.patch` };
    assert.equal(await target.apply({ ...options, ...NO_COMMITS }), "paddock/task1");
    assert.equal(await shell(LOOK, folder), `${before}paddock/task1\n`);
    assert.equal(
      await shell(
        "cd repo; git log --format=%s paddock/task1; git diff --name-status paddock/task1~1 paddock/task1",
        folder,
      ),
      "codex: Do it [2J now\nLocal changes before the task\nfirst\nM\ta\nD\tb\nA\tmore\n",
    );
    await shell("git -C repo fsck --strict", folder);
    await assert.rejects(
      target.apply({ ...options, ...NO_COMMITS }),
      /There is a branch "paddock\/task1" already/,
    );
  });
});

Deno.test("--apply keeps the agent's commits, and adds what it did not commit", async () => {
  await withFolder(async (folder) => {
    await shell(`${START}; git checkout -q -f HEAD; git reset -q --hard; rm -f new s`, folder);
    const target = await ApplyTarget.open(`${folder}/repo`, "result");
    await shell(
      `cp -a repo guest; cd guest; base=$(git rev-parse HEAD); echo three >> a; git commit -qam 'Agent: three'
       git rev-parse HEAD > ../tip; echo left > left; git bundle create -q ../x.bundle HEAD ^$base
       git add -A; git diff --cached --binary $base > ../c.patch; cd ..
       sed '1,/^$/d' x.bundle > x.pack`,
      folder,
    );
    const tip = (await Deno.readTextFile(`${folder}/tip`)).trim();
    const commits = { count: 1, base: null, tip };
    const options = { id: "t", title: "Rest", patchPath: `${folder}/c.patch`, packPath: `${folder}/x.pack` };
    assert.equal(await target.apply({ ...options, commits }), "result");
    assert.equal(
      await shell(
        "cd repo; git log --format=%s result; git show result:left; git rev-parse result~1; git status --porcelain",
        folder,
      ),
      `Rest\nAgent: three\nfirst\nleft\n${tip}\n`,
    );
    await Deno.writeTextFile(`${folder}/bad.pack`, "PACK");
    const bad = { ...options, commits, packPath: `${folder}/bad.pack` };
    await shell("git -C repo branch -D result", folder);
    await assert.rejects(target.apply(bad), /commits cannot be taken over/);
    assert.equal(await shell("git -C repo branch --format='%(refname:short)'", folder), "main\n");
  });
});

Deno.test("--apply makes no branch where nothing changed, and no hook runs", async () => {
  await withFolder(async (folder) => {
    await shell(
      `${START}; printf '#!/bin/sh\\ntouch ${folder}/ran' > .git/hooks/reference-transaction; chmod +x .git/hooks/*; : > ../e.patch`,
      folder,
    );
    const target = await ApplyTarget.open(`${folder}/repo`, undefined);
    const options = { id: "t", title: "x", patchPath: `${folder}/e.patch` };
    assert.equal(await target.apply({ ...options, ...NO_COMMITS }), undefined);
    await Deno.writeTextFile(
      `${folder}/f.patch`,
      "diff --git a/q b/q\nnew file mode 100644\n--- /dev/null\n+++ b/q\n@@ -0,0 +1 @@\n+q\n",
    );
    assert.equal(
      await target.apply({ ...options, patchPath: `${folder}/f.patch`, ...NO_COMMITS }),
      "paddock/t",
    );
    await assert.rejects(Deno.stat(`${folder}/ran`));
    await Deno.writeTextFile(
      `${folder}/g.patch`,
      "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-nothing like it\n+q\n",
    );
    const gone = { ...options, id: "u", patchPath: `${folder}/g.patch`, ...NO_COMMITS };
    await assert.rejects(target.apply(gone), /do not apply/);
  });
});

Deno.test("--apply says at the start what it cannot work with", async () => {
  await withFolder(async (folder) => {
    await shell(`${START}; mkdir sub; cd ..; mkdir plain; git init -q empty`, folder);
    for (
      const [repo, branch, why] of [
        ["plain", undefined, /is none/],
        ["repo/sub", undefined, /is none/],
        ["empty", undefined, /has none/],
        ["repo", "main", /already/],
        ["repo", "a..b", /no name/],
        ["repo", "-x", /no name/],
      ] as const
    ) {
      await assert.rejects(ApplyTarget.open(`${folder}/${repo}`, branch), why);
    }
  });
});
