import assert from "node:assert/strict";
import { collectChanges, isSafeToHandOut } from "../../src/session/changes.ts";
import { quotePath } from "../../src/session/git_history.ts";

async function run(command: string, cwd: string): Promise<string> {
  const output = await new Deno.Command("sh", { args: ["-ec", command], cwd, stdin: "null" }).output();
  const text = new TextDecoder();
  assert.equal(output.code, 0, `${command}: ${text.decode(output.stderr)}`);
  return text.decode(output.stdout);
}

interface Trees {
  readonly root: string;
  readonly patch: string;
  readonly changes: Awaited<ReturnType<typeof collectChanges>>;
}

/** Makes two trees with shell commands, archives them with the host's tar and compares them. */
async function compare(before: string, after: string): Promise<Trees> {
  const root = await Deno.makeTempDir();
  await run(
    `mkdir before after temp
     (cd before; ${before})
     cp -a before/. after/
     (cd after; ${after})
     tar -C before -cf before.tar . ; tar -C after -cf after.tar .`,
    root,
  );
  const changes = await collectChanges({
    beforeTar: `${root}/before.tar`,
    afterTar: `${root}/after.tar`,
    tempFolder: `${root}/temp`,
    patchPath: `${root}/changes.patch`,
    workspaceTarPath: `${root}/workspace.tar`,
    filesTarPath: `${root}/files.tar`,
  });
  return { root, changes, patch: await Deno.readTextFile(`${root}/changes.patch`) };
}

/** Applies the patch to a copy of the first tree and says how it then differs from the second. */
async function differenceAfterApply(root: string): Promise<string> {
  return await run(
    `cp -a before patched; cd patched; test ! -s ../changes.patch || git apply ../changes.patch; cd ..
     diff -r --no-dereference patched after && (cd patched; find . -type f -perm /100 | sort) > a
     (cd after; find . -type f -perm /100 | sort) > b; diff a b`,
    root,
  );
}

Deno.test("collectChanges() makes a patch that turns the first tree into the second", async () => {
  const { root, changes } = await compare(
    `printf 'one\\ntwo\\n' > change.txt; echo gone > delete.txt; echo x > mode.sh; mkdir dir; echo in > dir/inner
     printf 'no newline' > tail; ln -s change.txt link; head -c 3000 /dev/urandom > old.bin; echo was > becomes`,
    `echo three >> change.txt; rm delete.txt; chmod +x mode.sh; echo new > "dir/a file with spaces é"
     head -c 5000 /dev/urandom > new.bin; head -c 10 /dev/urandom >> old.bin; : > empty; ln -sf dir link
     printf 'no newline 2' > tail; rm becomes; mkdir becomes; echo y > becomes/a; printf q > 'quo"te\\'`,
  );
  assert.equal(await differenceAfterApply(root), "");
  const kinds = Object.fromEntries(changes.paths.map((change) => [change.path, change.kind]));
  assert.equal(kinds["change.txt"], "modified");
  assert.equal(kinds["delete.txt"], "deleted");
  assert.equal(kinds["new.bin"], "added");
  assert.equal(kinds["mode.sh"], "modified");
  assert.equal(kinds["dir/inner"], undefined);
  await Deno.remove(root, { recursive: true });
});

Deno.test("collectChanges() writes an empty patch for an unchanged tree", async () => {
  const { root, changes, patch } = await compare(
    "echo a > a; mkdir .git; echo b > .git/HEAD",
    "echo c > .git/HEAD",
  );
  assert.equal(patch, "");
  assert.deepEqual(changes, { paths: [], ignoredCount: 0, refusedCount: 0 });
  await Deno.remove(root, { recursive: true });
});

Deno.test("collectChanges() leaves new ignored files out of the patch but in the archive", async () => {
  const { root, changes, patch } = await compare(
    "printf 'build/\\n*.log\\n' > .gitignore; echo t > tracked.log",
    "mkdir build sub; echo o > build/out; echo l > new.log; echo u >> tracked.log; echo s > sub/keep; echo '!x.log' > sub/.gitignore; echo x > sub/x.log",
  );
  assert.deepEqual(changes.paths.map((change) => change.path), [
    "sub/.gitignore",
    "sub/keep",
    "sub/x.log",
    "tracked.log",
  ]);
  assert.equal(changes.ignoredCount, 2);
  assert.ok(!patch.includes("build/out"));
  const listed = await run("tar -tf workspace.tar", root);
  assert.ok(listed.includes("build/out") && listed.includes("new.log"));
  await Deno.remove(root, { recursive: true });
});

Deno.test("collectChanges() follows hard links", async () => {
  const { root } = await compare("echo a > a", "ln a b; echo c > c; ln c d");
  assert.equal(await differenceAfterApply(root), "");
  await Deno.remove(root, { recursive: true });
});

Deno.test("collectChanges() lets no configuration of the guest act", async () => {
  const { root, patch } = await compare(
    "echo a > a",
    `mkdir -p .git/hooks; printf '[core]\\n fsmonitor = "touch ${"/tmp/paddock-pwned"}"\\n' > .git/config
     echo b > a; echo 'a diff=evil' > .gitattributes; echo hook > .git/hooks/x; echo ref > .git/HEAD`,
  );
  assert.ok(patch.includes("+b"));
  const listed = await run("tar -tf workspace.tar", root);
  assert.ok(listed.includes(".git/HEAD"));
  assert.ok(!listed.includes(".git/config") && !listed.includes("hooks"));
  await assert.rejects(Deno.stat("/tmp/paddock-pwned"));
  await Deno.remove(root, { recursive: true });
});

Deno.test("isSafeToHandOut() passes only data of a repository's folder", () => {
  assert.equal(isSafeToHandOut("src/a.ts", "file"), true);
  assert.equal(isSafeToHandOut(".git", "directory"), true);
  assert.equal(isSafeToHandOut(".git", "file"), false);
  assert.equal(isSafeToHandOut("sub/.git", "symlink"), false);
  assert.equal(isSafeToHandOut(".git/objects/ab/cd", "file"), true);
  assert.equal(isSafeToHandOut(".git/objects/info/alternates", "file"), false);
  assert.equal(isSafeToHandOut(".git/config", "file"), false);
  assert.equal(isSafeToHandOut(".GIT/config", "file"), false);
  assert.equal(isSafeToHandOut(".git/hooks/pre-commit", "file"), false);
  assert.equal(isSafeToHandOut(".git/refs/heads/main", "symlink"), false);
});

Deno.test("quotePath() leaves no byte that ends or escapes a fast-import path", () => {
  assert.equal(quotePath('a"b\\c\nd\xe9'), '"a\\042b\\134c\\012d\\351"');
});

Deno.test("collectChanges() puts what was added or changed, and nothing else, into an archive", async () => {
  const { root } = await compare(
    "echo a > same; echo b > change; echo c > gone; printf 'skip\\n' > .gitignore",
    "echo B > change; rm gone; echo n > new; ln new hard; ln same also; ln -s new link; echo s > skip; chmod +x new",
  );
  await run("mkdir files; tar -C files -xf files.tar", root);
  assert.equal(
    await run(
      "cd files; find . ! -type d -printf '%P %y %m\\n' | sort; cat change hard also; readlink link",
      root,
    ),
    "also f 644\nchange f 644\nhard f 755\nlink l 777\nnew f 755\nB\nn\na\nnew\n",
  );
  await Deno.remove(root, { recursive: true });
});
