import assert from "node:assert/strict";
import { checkResultPlaces } from "../../src/local/result_files.ts";
import { unpackFiles } from "../../src/local/unpack_files.ts";
import { writeBundle } from "../../src/local/write_bundle.ts";
import { TarFileWriter, type TarMember } from "../../src/session/tar_writer.ts";
import { shell, withFolder } from "../support/sandbox_cli.ts";

const FILE = { kind: "file", mode: 0o644, mtime: 5, sizeBytes: 2 } as const;

async function archive(path: string, members: readonly TarMember[]): Promise<void> {
  using writer = await TarFileWriter.create(path);
  for (const member of members) {
    await writer.add(member, ReadableStream.from([new TextEncoder().encode("x\n")]));
  }
  await writer.finish();
}

Deno.test("unpackFiles() makes files in its folder, and no link whatever the archive holds", async () => {
  await withFolder(async (folder) => {
    await archive(`${folder}/a.tar`, [
      { ...FILE, name: "dir/a" },
      { ...FILE, name: "run.sh", mode: 0o4755 },
      { ...FILE, name: "secret", mode: 0 },
      { ...FILE, kind: "symlink", name: "link", linkName: "/etc", sizeBytes: 0 },
      { ...FILE, name: "link/passwd" },
      { ...FILE, name: "../out" },
      { ...FILE, name: "/abs" },
      { ...FILE, name: "sub/.GIT/config" },
      { ...FILE, name: "run.sh" },
      { ...FILE, name: "run.sh/below" },
      { ...FILE, name: "n".repeat(300) },
      { ...FILE, kind: "hardlink", name: "same", linkName: "dir/a", sizeBytes: 0 },
      { ...FILE, kind: "hardlink", name: "elsewhere", linkName: "../a.tar", sizeBytes: 0 },
    ]);
    const links = await unpackFiles(`${folder}/a.tar`, `${folder}/out`);
    assert.deepEqual(links, [{ name: "link", linkName: "/etc" }]);
    const listed = await shell("cd out; find . -printf '%P %y %m\\n' | sort", folder);
    assert.equal(listed, " d 755\ndir d 755\ndir/a f 644\nrun.sh f 755\nsame f 644\nsecret f 600\n");
    assert.equal(await shell("cat out/same; ls", folder), "x\na.tar\nout\n");
  });
});

Deno.test("writeBundle() writes the same bytes for the same results, in the same order", async () => {
  await withFolder(async (folder) => {
    await shell(
      "mkdir -p r/files/sub; for f in b.log result.json files/z files/a files/sub/q; do echo x > r/$f; done",
      folder,
    );
    const links = new Map([["files", [{ name: "m", linkName: "a" }]]]);
    const content = { folder: `${folder}/r`, order: ["result.json", "files", "absent", "b.log"], links };
    await writeBundle(`${folder}/1.tar`, content);
    await shell("touch r/files/a; chmod 600 r/b.log", folder);
    await writeBundle(`${folder}/2.tar`, content);
    assert.equal(
      await shell("cmp 1.tar 2.tar; tar -tf 1.tar; tar -tvf 1.tar | grep -c 1970", folder),
      "result.json\nfiles/a\nfiles/m\nfiles/sub/q\nfiles/z\nb.log\n6\n",
    );
    await shell("test ! -e 1.tar.partial", folder);
  });
});

Deno.test("checkResultPlaces() refuses places where something of the user's would be lost", async () => {
  await withFolder(async (folder) => {
    await shell(
      'mkdir -p mine/files old/files empty; touch x.tar; echo \'{"outcome":1,"agent":1}\' > old/result.json',
      folder,
    );
    const usage = { name: "LocalError", code: "usage" };
    for (
      const places of [{ out: "x.tar" }, { out: "mine" }, { bundle: "x.tar" }, { bundle: "no/where.tar" }]
    ) {
      const there = Object.fromEntries(
        Object.entries(places).map(([key, path]) => [key, `${folder}/${path}`]),
      );
      await assert.rejects(checkResultPlaces(there), usage, JSON.stringify(places));
    }
    for (const out of ["old", "empty", "new"]) await checkResultPlaces({ out: `${folder}/${out}` });
    await checkResultPlaces({ bundle: `${folder}/new.tar` });
  });
});
