import assert from "node:assert/strict";
import { tarEnd, tarHeader, type TarMember, tarPadding } from "../../src/session/tar_writer.ts";
import { unpackArchive } from "../../src/local/unpack_archive.ts";

type Member = Partial<TarMember> & { readonly name: string; readonly text?: string };

async function* archive(members: readonly Member[]): AsyncGenerator<Uint8Array> {
  for (const { text = "", ...member } of members) {
    const content = new TextEncoder().encode(text);
    yield await Promise.resolve(
      tarHeader({ kind: "file", mode: 0o644, mtime: 0, ...member, sizeBytes: content.length }),
    );
    yield content;
    yield tarPadding(content.length);
  }
  yield tarEnd();
}

async function withTarget(use: (folder: string, outside: string) => Promise<void>): Promise<void> {
  const top = await Deno.makeTempDir();
  await Deno.mkdir(`${top}/target`);
  await Deno.mkdir(`${top}/outside`);
  try {
    await use(`${top}/target`, `${top}/outside`);
  } finally {
    await Deno.remove(top, { recursive: true });
  }
}

function names(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
}

Deno.test("unpackArchive() makes files, folders and links with their modes, set-id bits dropped", async () => {
  await withTarget(async (folder) => {
    const tar = archive([
      { name: "d/", kind: "directory", mode: 0o2750 },
      { name: "d/f", mode: 0o4755, text: "x" },
      { name: "l", kind: "symlink", linkName: "d/f" },
      { name: "h", kind: "hardlink", linkName: "d/f" },
    ]);
    assert.deepEqual(await unpackArchive({ tar, folder }), { count: 4, refusedCount: 0 });
    assert.equal(await Deno.readTextFile(`${folder}/l`), "x");
    assert.equal((await Deno.stat(`${folder}/h`)).nlink, 2);
    assert.equal(((await Deno.stat(`${folder}/d/f`)).mode ?? 0) & 0o7777, 0o755);
    assert.equal(((await Deno.stat(`${folder}/d`)).mode ?? 0) & 0o7777, 0o750);
  });
});

Deno.test("unpackArchive() writes nothing outside, whatever names, links and folders there are", async () => {
  await withTarget(async (folder, outside) => {
    await Deno.symlink(outside, `${folder}/mine`);
    await Deno.writeTextFile(`${outside}/kept`, "kept");
    await Deno.symlink(`${outside}/kept`, `${folder}/alias`);
    const tar = archive([
      { name: "../outside/a", text: "bad" },
      { name: "/etc/paddock-test", text: "bad" },
      { name: "mine/b", text: "bad" },
      { name: "l", kind: "symlink", linkName: outside },
      { name: "l/c", text: "bad" },
      { name: "x", kind: "hardlink", linkName: "alias" },
      { name: "y", kind: "hardlink", linkName: "../outside/kept" },
      { name: "alias", text: "new" },
      { name: "good", text: "good" },
    ]);
    const facts = await unpackArchive({ tar, folder });
    assert.deepEqual(names(outside), ["kept"]);
    assert.equal(await Deno.readTextFile(`${outside}/kept`), "kept");
    // The link that stood in a file's place is replaced, and not written through
    assert.equal(await Deno.readTextFile(`${folder}/alias`), "new");
    assert.deepEqual(names(folder), ["alias", "good", "l", "mine"]);
    assert.deepEqual(facts, { count: 3, refusedCount: 6 });
  });
});

Deno.test("unpackArchive() puts no file where a folder is, and keeps what it does not bring", async () => {
  await withTarget(async (folder) => {
    await Deno.mkdir(`${folder}/d`);
    await Deno.writeTextFile(`${folder}/d/old`, "old");
    await Deno.writeTextFile(`${folder}/f`, "old");
    const tar = archive([{ name: "d", text: "bad" }, { name: "d/new", text: "new" }, {
      name: "f",
      text: "new",
    }]);
    assert.deepEqual(await unpackArchive({ tar, folder }), { count: 2, refusedCount: 1 });
    assert.deepEqual(names(`${folder}/d`), ["new", "old"]);
    assert.equal(await Deno.readTextFile(`${folder}/f`), "new");
  });
});

Deno.test("unpackArchive() gives a single file the name that was asked for", async () => {
  await withTarget(async (folder) => {
    await unpackArchive({ tar: archive([{ name: "theirs", text: "x" }]), folder, fileName: "ours" });
    assert.deepEqual(names(folder), ["ours"]);
  });
});
