import assert from "node:assert/strict";
import { type AgentCommits, BaseHistory } from "../../src/session/agent_commits.ts";
import { BundleError, readBundleHeader } from "../../src/session/bundle_header.ts";
import { shell, withFolder } from "../support/sandbox_cli.ts";

const START = `git init -q -b main repo; cd repo; printf 'one\\n' > a; git add -A; git commit -qm first; cd ..
  tar -C repo -cf before.tar .; base=$(git -C repo rev-parse HEAD); cd repo`;
const BUNDLE = `git bundle create -q ../x.bundle HEAD ^$base`;

/** Makes a repository, lets a script commit in a copy, and reads what comes of it. */
async function commitsOf(
  script: string,
  use: (folder: string, commits: AgentCommits) => Promise<void>,
): Promise<void> {
  await withFolder(async (folder) => {
    await shell(`${START}; ${script}`, folder);
    await Deno.mkdir(`${folder}/temp`);
    const history = await BaseHistory.unpack(`${folder}/before.tar`, `${folder}/temp`);
    assert.ok(history !== undefined);
    const targets = { packPath: `${folder}/x.pack`, patchesTarPath: `${folder}/patches.tar` };
    const commits = await history.read(`${folder}/x.bundle`, targets);
    await use(folder, commits);
  });
}

Deno.test("an agent's commits become patches that give the same tree, in order, with their messages", async () => {
  await commitsOf(
    `echo two >> a; git commit -qam 'Second: a line'; head -c 2000 /dev/urandom > b.bin; chmod +x b.bin; git add -A
     git commit -qm "$(printf 'Third\\n\\nWith a body.')"; ${BUNDLE}`,
    async (folder, commits) => {
      assert.equal(commits.count, 2);
      assert.equal(
        await shell("tar -tf patches.tar", folder),
        "0001-Second-a-line.patch\n0002-Third.patch\n",
      );
      await shell(
        `mkdir p clone; tar -C p -xf patches.tar; tar -C clone -xf before.tar; cd clone; git am -q ../p/*.patch
         test "$(git rev-parse HEAD^{tree})" = "$(git -C ../repo rev-parse HEAD^{tree})"; git log --format=%B | grep -q 'With a body'`,
        folder,
      );
      assert.equal(commits.tip, (await shell("git -C repo rev-parse HEAD", folder)).trim());
      await shell(
        "mkdir again; tar -C again -xf before.tar; git -C again index-pack --stdin --fix-thin < x.pack",
        folder,
      );
    },
  );
});

Deno.test("an agent that rewrites the history gives what is new in it", async () => {
  await commitsOf(
    `git checkout -q --orphan other; git rm -qrf .; echo z > z; git add z; git commit -qm root; ${BUNDLE}`,
    async (folder, commits) => {
      assert.equal(commits.count, 1);
      assert.equal(await shell("tar -tf patches.tar", folder), "0001-root.patch\n");
    },
  );
});

Deno.test("a commit's message cannot choose a file's name or hide in it", async () => {
  await commitsOf(
    `echo x > x; git add x; git commit -qm "$(printf '../../../etc/\\033]0;pwned\\007 \\n\\nSigned-off-by: A\\033[2J <a@b>')"; ${BUNDLE}`,
    async (folder) =>
      assert.match(await shell("tar -tf patches.tar", folder), /^0001-[A-Za-z0-9._-]+\.patch\n$/),
  );
});

const HOSTILE: readonly (readonly [string, string, RegExp])[] = [
  ["a file in .git", `.git/hooks/post-checkout`, /dotgit|\.git/i],
  ["a file above the folder", `../evil`, /dotdot|fullPathname|\.\./i],
  ["a file in .GIT", `.GIT/config`, /dotgit|\.git/i],
];

for (const [what, path, reason] of HOSTILE) {
  Deno.test(`commits with ${what} are refused`, async () => {
    const name = path.split("/")[0];
    await assert.rejects(
      commitsOf(
        `blob=$(echo evil | git hash-object -w --stdin)
         sub=$(printf "100644 blob $blob\\tconfig\\n" | git mktree)
         tree=$(printf "040000 tree $sub\\t${name}\\n" | git mktree)
         git update-ref HEAD $(git commit-tree -p $base -m evil $tree); ${BUNDLE}`,
        () => Promise.resolve(),
      ),
      (error) => error instanceof BundleError && reason.test(error.message),
    );
  });
}

Deno.test("broken, cut and foreign bundles are refused", async () => {
  const commit = `echo two >> a; git commit -qam second; ${BUNDLE}; cd ..`;
  for (
    const damage of [
      "head -c 300 x.bundle > y; mv y x.bundle",
      "head -c -25 x.bundle > y; head -c 25 /dev/urandom >> y; mv y x.bundle",
      "echo nothing > x.bundle",
      ": > x.bundle",
      `git -C repo bundle create -q ../x.bundle main ^$base`,
      `git -C repo branch more; git -C repo bundle create -q ../x.bundle HEAD more ^$base`,
      // its pack needs an object that went into no guest
      `cd repo; next=$(git rev-parse HEAD); echo 3 >> a; git commit -qam third; git bundle create -q ../x.bundle HEAD ^$next`,
    ]
  ) {
    await assert.rejects(commitsOf(`${commit}; ${damage}`, () => Promise.resolve()), BundleError, damage);
  }
});

Deno.test("BaseHistory.unpack() takes no configuration, and gives nothing where no repository went in", async () => {
  await withFolder(async (folder) => {
    await shell(
      `${START}; git config core.fsmonitor 'touch ../pwned'; echo '/etc' > .git/objects/info/alternates; tar -C . -cf ../t.tar .
       mkdir ../plain; tar -C ../plain -cf ../plain.tar .; mkdir ../temp ../temp2`,
      folder,
    );
    const history = await BaseHistory.unpack(`${folder}/t.tar`, `${folder}/temp`);
    assert.match(history?.base ?? "", /^[0-9a-f]{40}$/);
    await shell(
      "test ! -e pwned; test ! -e temp/base.git/objects/info/alternates; ! grep fsmonitor temp/base.git/config",
      folder,
    );
    assert.equal(await BaseHistory.unpack(`${folder}/plain.tar`, `${folder}/temp2`), undefined);
  });
});

Deno.test("readBundleHeader() takes one HEAD and nothing odd", () => {
  const id = "a".repeat(40);
  const head = (text: string): ReturnType<typeof readBundleHeader> =>
    readBundleHeader(new TextEncoder().encode(text));
  const text = `# v2 git bundle\n-${id} first \x1b[2J\n${id} HEAD\n\n`;
  assert.deepEqual(head(`${text}PACK`), { tip: id, packOffset: text.length });
  for (
    const odd of [
      "",
      "# v3 git bundle\n\n",
      `# v2 git bundle\n${id} HEAD\n`,
      `# v2 git bundle\n${id} HEAD\n${id} HEAD\n\n`,
      `# v2 git bundle\n--upload-pack=x HEAD\n\n`,
      `# v2 git bundle\n${id} refs/heads/x\n\n`,
      `# v2 git bundle\n-${id}\n\n`,
      `# v2 git bundle\n${"x".repeat(70_000)}\n\n`,
    ]
  ) assert.throws(() => head(odd), BundleError, odd.slice(0, 60));
});
