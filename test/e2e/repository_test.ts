import assert from "node:assert/strict";
import { startModelServer } from "../support/model_server/model_server.ts";
import { scriptPrefix } from "../support/model_server/script.ts";
import { assertNothingLeft, sandbox, shell, withFolder } from "../support/sandbox_cli.ts";

const MAKE_REPOSITORY = `mkdir repo; cd repo; git init -q -b main; git config user.name owner
  printf 'one\\ntwo\\nthree\\n' > change.txt; echo gone > delete.txt; mkdir -p src; echo 'echo hi' > src/run.sh
  head -c 3000 /dev/urandom > old.bin; printf '*.log\\n' > .gitignore; ln -s change.txt link
  git add -A; git commit -qm first; echo local > untracked.txt; echo noise > noise.log; echo four >> change.txt`;

const COMMANDS = [
  "cd /workspace && git status --porcelain > /tmp/status && git log --oneline | wc -l && ls && test ! -e noise.log",
  "sed -i s/two/TWO/ change.txt; rm delete.txt; chmod +x src/run.sh; mkdir -p new/deep; echo added > 'new/deep/a file'",
  "head -c 4000 /dev/urandom > new.bin; head -c 100 /dev/urandom >> old.bin; : > empty; echo x > ignored.log; ln -sf src link",
  "git add -A && git -c user.name=Agent -c user.email=agent@example.org commit -qm 'Agent: all of it' && echo uncommitted > last.txt",
];

Deno.test("a repository goes in, and the patch that comes out gives exactly the guest's tree", async () => {
  const server = startModelServer({ requiredKey: "sk-e2e" });
  await withFolder(async (folder) => {
    await shell(MAKE_REPOSITORY, folder);
    const prefix = scriptPrefix({ commands: COMMANDS, finalText: "All changed." });
    const args = ["run", "codex", "Change things", "--repo", `${folder}/repo`, "--out", `${folder}/out`];
    const url = ["--model-url", `${server.url}${prefix}/v1`];
    const { code, stdout, stderr } = await sandbox([
      ...args,
      ...url,
      "--apply",
      "--yes",
      "--branch",
      "result",
    ], { OPENAI_API_KEY: "sk-e2e" });
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /All changed\./);

    await shell(
      "cp -a repo applied; cd applied; git apply --check ../out/changes.patch; git apply ../out/changes.patch",
      folder,
    );
    await shell("mkdir guest; tar -C guest -xf out/workspace.tar", folder);
    await shell(
      "rm guest/ignored.log applied/noise.log; diff -r --no-dereference --exclude=.git applied guest",
      folder,
    );
    await shell(
      "test -x applied/src/run.sh; test -x guest/src/run.sh; test ! -e applied/delete.txt; test -f applied/empty",
      folder,
    );
    assert.match(stdout, /1 commit: see patches\//);
    await shell('cd out/patches; test "$(ls)" = 0001-Agent-all-of-it.patch; grep -q TWO *', folder);
    await shell(
      `mkdir branch; git -C repo archive result | tar -x -C branch; diff -r --no-dereference --exclude=.git branch guest
       test "$(git -C repo log --format=%s main..result | tr '\\n' ,)" = "Codex: Change things,Agent: all of it,"`,
      folder,
    );
    await shell("cd guest; git fsck --full; test ! -e .git/hooks", folder);
    assert.ok(!(await Deno.readTextFile(`${folder}/out/changes.patch`)).includes("ignored.log"));
    assert.equal(await shell("cd repo; git status --porcelain", folder), " M change.txt\n?? untracked.txt\n");
  }).finally(() => server.close());
  await assertNothingLeft();
});
