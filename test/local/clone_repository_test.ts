import assert from "node:assert/strict";
import { cloneRepository, parseRepository, withoutPassword } from "../../src/local/clone_repository.ts";
import { LocalError } from "../../src/local/local_error.ts";
import { shell, withFolder } from "../support/sandbox_cli.ts";

const { signal } = new AbortController();

Deno.test("parseRepository() tells URLs from folders, and refuses protocols that run programs", () => {
  assert.deepEqual(parseRepository("https://example.org/a.git"), {
    url: "https://example.org/a.git",
    branch: undefined,
  });
  assert.deepEqual(parseRepository("git@example.org:a/b#v1"), { url: "git@example.org:a/b", branch: "v1" });
  for (const folder of [".", "/a/b", "a:b", "../x#y", "C:\\x"]) {
    assert.equal(parseRepository(folder), undefined);
  }
  for (
    const bad of [
      "ext::sh -c x",
      "http://a/b",
      "ftp://a/b",
      "https://a/b#",
      "https://a/b#-x",
      "https://a#b#c",
    ]
  ) {
    if (bad.startsWith("ext::")) assert.equal(parseRepository(bad), undefined);
    else assert.throws(() => parseRepository(bad), LocalError, bad);
  }
  assert.equal(withoutPassword("https://me:secret@h/x and ssh://me@h"), "https://me:…@h/x and ssh://me@h");
});

Deno.test("cloneRepository() clones one branch with its history, runs no hook and no filter, and leaves nothing", async () => {
  await withFolder(async (folder) => {
    await shell(
      `git init -q -b main r; cd r; echo 1 > a; echo '*.bin filter=lfs' > .gitattributes; echo pointer > x.bin; git add -A
       git commit -qm one; git checkout -qb other; echo 2 > a; git commit -qam two; git checkout -q main
       mkdir ../home; git config -f ../home/.gitconfig filter.lfs.smudge 'touch ${folder}/ran; cat'
       git config -f ../home/.gitconfig filter.lfs.required true`,
      folder,
    );
    const options = { state: `${folder}/state`, env: { HOME: `${folder}/home` } };
    {
      await using clone = await cloneRepository({ url: `file://${folder}/r`, branch: "other" }, {
        ...options,
        signal,
      });
      assert.equal(
        await shell(
          `cd ${clone.folder}; cat a x.bin; git log --format=%s; git branch -a --format='%(refname:short)'; ls .git/hooks 2>/dev/null || true`,
          folder,
        ),
        "2\npointer\ntwo\none\nother\norigin/other\n",
      );
    }
    await assert.rejects(Deno.stat(`${folder}/ran`));
    assert.equal(await shell("ls state/clones", folder), "");
  });
});

Deno.test("cloneRepository() says in one line what is wrong, and removes clones of owners that are gone", async () => {
  await withFolder(async (folder) => {
    await shell(`mkdir -p state/clones/${crypto.randomUUID()}-12345678/x state/owners`, folder);
    for (
      const [url, branch, why] of [
        [`file://${folder}/none`, undefined, /does not (appear to be|exist)/],
        ["https://me:secret@127.0.0.1:1/x", undefined, /Cannot clone "https:\/\/me:…@127/],
      ] as const
    ) {
      await assert.rejects(
        cloneRepository({ url, branch }, { signal, state: `${folder}/state` }),
        (error) => {
          assert.ok(error instanceof LocalError && why.test(error.message), String(error));
          return !error.message.includes("\n") && !error.message.includes("secret");
        },
      );
    }
    await shell(`git init -q r; cd r; echo 1 > a; git add a; git commit -qm one`, folder);
    await assert.rejects(
      cloneRepository({ url: `file://${folder}/r`, branch: "nope" }, { signal, state: `${folder}/state` }),
      /branch nope not found/i,
    );
    assert.equal(await shell("ls state/clones", folder), "");
  });
});
