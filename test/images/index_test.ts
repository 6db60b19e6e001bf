import assert from "node:assert/strict";
import { join } from "node:path";
import { exists } from "../../src/images/build_once.ts";
import {
  findImage,
  type IndexEntry,
  listImages,
  recordImage,
  removeImages,
} from "../../src/images/image_index.ts";

async function withCache(body: (cache: string) => Promise<void>): Promise<void> {
  const cache = await Deno.makeTempDir({ prefix: "paddock-index-" });
  try {
    await body(cache);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

async function addImage(cache: string, name: string): Promise<IndexEntry> {
  await Deno.mkdir(join(cache, "images", name), { recursive: true });
  await Deno.mkdir(join(cache, "kernel"), { recursive: true });
  await Deno.writeTextFile(join(cache, "kernel/vmlinux"), "");
  await Deno.writeTextFile(join(cache, "images", name, "rootfs.img"), "");
  const entry: IndexEntry = {
    kernelPath: "kernel/vmlinux",
    kernelVersion: "6",
    rootfsPath: `images/${name}/rootfs.img`,
    agentVersion: "1",
    imageKey: name,
    base: "alpine",
    baseVersion: "3",
  };
  await recordImage(cache, "codex", name, entry);
  return entry;
}

Deno.test("an image is found by its inputs, and without inputs the one asked for last", () =>
  withCache(async (cache) => {
    assert.equal(await findImage(cache, "codex"), undefined);
    const [one, two] = [await addImage(cache, "one"), await addImage(cache, "two")];
    assert.deepEqual(await findImage(cache, "codex"), two);
    assert.deepEqual(await findImage(cache, "codex", "one"), one);
    assert.deepEqual(await findImage(cache, "codex"), one);
    assert.equal(await findImage(cache, "codex", "three"), undefined);
  }));

Deno.test("an image whose files are gone is not found", () =>
  withCache(async (cache) => {
    const entry = await addImage(cache, "one");
    await Deno.remove(join(cache, entry.rootfsPath));
    assert.equal(await findImage(cache, "codex", "one"), undefined);
  }));

Deno.test("a broken index counts as none", () =>
  withCache(async (cache) => {
    await Deno.mkdir(join(cache, "images"));
    await Deno.writeTextFile(join(cache, "images/codex.json"), "{ half");
    assert.equal(await findImage(cache, "codex"), undefined);
  }));

Deno.test("only the newest images stay on the disk", () =>
  withCache(async (cache) => {
    for (const name of ["one", "two", "three", "four"]) await addImage(cache, name);
    assert.equal(await exists(join(cache, "images/one")), false);
    assert.equal(await exists(join(cache, "images/two/rootfs.img")), true);
    assert.equal(await findImage(cache, "codex", "one"), undefined);
  }));

Deno.test("listImages() has the latest first, and removeImages() takes list and files away", () =>
  withCache(async (cache) => {
    assert.deepEqual(await listImages(cache), []);
    for (const name of ["one", "two"]) await addImage(cache, name);
    const listed = await listImages(cache);
    assert.deepEqual(listed.map(({ imageKey, isLatest }) => [imageKey, isLatest]), [["two", true], [
      "one",
      false,
    ]]);
    assert.equal(await removeImages(cache, "codex"), 2);
    assert.deepEqual(await listImages(cache), []);
    assert.equal(await exists(join(cache, "images/one")), false);
    assert.equal(await removeImages(cache, "codex"), 0);
  }));
