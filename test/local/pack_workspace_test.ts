import assert from "node:assert/strict";
import { toEmulatedUrl } from "../../src/local/local_host.ts";
import { ConsoleKeys } from "../../src/local/console_keys.ts";
import { packWorkspace } from "../../src/local/pack_workspace.ts";
import { shell } from "../support/sandbox_cli.ts";

/** Makes a folder with a script, packs it, and unpacks the archive with the host's tar. */
async function packed(
  script: string,
  use: (root: string, skipped: string[]) => Promise<void>,
  folder = "in",
): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    await shell(`mkdir in out; cd in; ${script}`, root);
    const skipped: string[] = [];
    using file = await Deno.open(`${root}/x.tar`, { write: true, createNew: true });
    for await (const chunk of packWorkspace(`${root}/${folder}`, (path) => skipped.push(path))) {
      for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
    }
    await shell("tar -C out -xf x.tar", root);
    await use(root, skipped);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

const REPOSITORY =
  `git init -q -b main; echo one > a; echo log > x.log; echo '*.log' > .gitignore; mkdir -p sub/deep
  echo s > sub/deep/s; git add -A; git commit -qm first; echo two > b; git add b; git commit -qm second; `;

Deno.test("packWorkspace() takes the work tree as it is, without ignored files", async () => {
  await packed(
    `${REPOSITORY} echo changed >> a; rm b; echo new > new; ln -s a link; chmod +x sub/deep/s`,
    async (root) => {
      const left = await shell("cd out; find . -path ./.git -prune -o -print | sort | tr '\\n' ' '", root);
      assert.equal(left, ". ./.gitignore ./a ./link ./new ./sub ./sub/deep ./sub/deep/s ");
      assert.equal(
        await shell("cat out/a; readlink out/link; test -x out/sub/deep/s", root),
        "one\nchanged\na\n",
      );
    },
  );
});

Deno.test("packWorkspace() takes the history and leaves out hooks, credentials and configuration", async () => {
  const script =
    `${REPOSITORY} git config remote.origin.url https://user:secret@example.org/x; git config core.fsmonitor evil
    git config user.name Somebody; echo 'touch /pwned' > .git/hooks/post-checkout; echo secret > .git/credentials`;
  await packed(script, async (root) => {
    assert.equal(
      await shell("cd out; git log --format=%s; git status --porcelain; git fsck --full 2>&1", root),
      "second\nfirst\n",
    );
    await shell("! grep -r secret out; test ! -e out/.git/hooks; test ! -e out/.git/credentials", root);
    assert.ok(!(await Deno.readTextFile(`${root}/out/.git/config`)).includes("fsmonitor"));
  });
});

Deno.test("packWorkspace() packs a linked work tree with its history", async () => {
  await packed(`${REPOSITORY} git worktree add -q ../tree HEAD~1`, async (root) => {
    assert.equal(await shell("cd out; git log --format=%s; git status --porcelain", root), "first\n");
  }, "tree");
});

Deno.test("packWorkspace() packs a repository that borrows objects from another", async () => {
  await packed(`${REPOSITORY} git clone -q --shared . ../borrower`, async (root) => {
    assert.equal(await shell("cd out; git log --format=%s; git fsck --full 2>&1", root), "second\nfirst\n");
  }, "borrower");
});

Deno.test("packWorkspace() packs a folder inside a repository without the history", async () => {
  await packed(REPOSITORY, async (root) => {
    assert.equal(await shell("cd out; find . -type f", root), "./deep/s\n");
  }, "in/sub");
});

Deno.test("packWorkspace() packs everything of a folder that is no repository", async () => {
  await packed(
    "mkdir empty; echo a > a; echo x > .hidden; mkfifo pipe; ln -s /etc/passwd abs",
    async (root, skipped) => {
      assert.equal(
        await shell("cd out; find . | sort | tr '\\n' ' '", root),
        ". ./.hidden ./a ./abs ./empty ",
      );
      assert.equal(await shell("readlink out/abs", root), "/etc/passwd\n");
      assert.deepEqual(skipped, ["pipe"]);
    },
  );
});

Deno.test("packWorkspace() says that it leaves out a repository inside the repository", async () => {
  await packed(
    `${REPOSITORY} mkdir inner; cd inner; git init -q; echo i > i; git add i; git commit -qm i`,
    (_, skipped) => {
      assert.deepEqual(skipped, ["inner"]);
      return Promise.resolve();
    },
  );
});

Deno.test("packWorkspace() packs a repository without a commit", async () => {
  await packed("git init -q -b main; echo a > a", async (root) => {
    assert.equal(await shell("cd out; git status --porcelain", root), "?? a\n");
  });
});

Deno.test("toEmulatedUrl() makes this machine's loopback reachable, and leaves other addresses", () => {
  assert.equal(toEmulatedUrl("http://127.0.0.1:8790/fault/x/v1"), "http://10.0.2.2:8790/fault/x/v1");
  assert.equal(toEmulatedUrl("http://localhost:80"), "http://10.0.2.2");
  assert.equal(toEmulatedUrl("https://api.openai.com/v1"), "https://api.openai.com/v1");
});

Deno.test("ConsoleKeys.push() quits on Ctrl-A Ctrl-C, across pieces, and passes everything else on", () => {
  const keys = new ConsoleKeys();
  assert.deepEqual(keys.push(Uint8Array.of(0x61, 0x03, 0x01)), {
    toGuest: Uint8Array.of(0x61, 0x03),
    quit: false,
  });
  assert.deepEqual(keys.push(Uint8Array.of(0x01, 0x62)), { toGuest: Uint8Array.of(0x01, 0x62), quit: false });
  assert.deepEqual(keys.push(Uint8Array.of(0x01, 0x63)), { toGuest: Uint8Array.of(0x01, 0x63), quit: false });
  assert.equal(keys.push(Uint8Array.of(0x01, 0x03)).quit, true);
});
