import assert from "node:assert/strict";
import { readTar, safePath, stringBytes, type TarEntry, TarError } from "../../src/session/tar_reader.ts";
import { tarEnd, tarHeader, type TarMember, tarPadding } from "../../src/session/tar_writer.ts";
import { checkedEntries, scanWorkspace } from "../../src/session/workspace_scan.ts";

const file = (name: string, sizeBytes = 0): TarMember => ({
  kind: "file",
  name,
  mode: 0o644,
  mtime: 1,
  sizeBytes,
});
const link = (name: string, linkName: string): TarMember => ({
  kind: "symlink",
  name,
  linkName,
  mode: 0o777,
  mtime: 1,
  sizeBytes: 0,
});

function archive(...parts: (TarMember | Uint8Array)[]): Uint8Array {
  const chunks = [...parts.map((part) => part instanceof Uint8Array ? part : tarHeader(part)), tarEnd()];
  return Uint8Array.from(chunks.flatMap((chunk) => Array.from(chunk)));
}

async function* stream(bytes: Uint8Array, pieceBytes = 333): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    yield await Promise.resolve(bytes.subarray(at, at + pieceBytes));
  }
}

async function names(bytes: Uint8Array): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of readTar(stream(bytes))) found.push(entry.name);
  return found;
}

Deno.test("safePath() lets no name leave its folder", () => {
  const bad = ["/etc/passwd", "../x", "a/../../x", "a/..", "..", "a\0b", "./../x"];
  for (const name of bad) assert.equal(safePath(name), undefined, name);
  assert.equal(safePath("./a//b/"), "a/b");
  assert.equal(safePath("./"), "");
  assert.equal(safePath("..a/b.."), "..a/b..");
});

Deno.test("checkedEntries() leaves out members that leave the folder or hide behind a symlink", async () => {
  const bytes = archive(
    file("/etc/cron.d/x"),
    file("../up"),
    link("door", "/etc"),
    file("door/passwd"),
    file("fine"),
    link("a/door", ".."),
    file("a/door/b/c"),
  );
  let refused = 0;
  const found: string[] = [];
  for await (const { path } of checkedEntries(stream(bytes), () => refused += 1)) found.push(path);
  assert.deepEqual(found, ["door", "fine", "a/door"]);
  assert.equal(refused, 4);
});

Deno.test("scanWorkspace() leaves out hard links to what is not in the archive", async () => {
  const hard: TarMember = { ...file("shadow"), kind: "hardlink", linkName: "../../etc/shadow" };
  const scan = await scanWorkspace(stream(archive(file("a"), hard, { ...hard, name: "b", linkName: "a" })));
  assert.deepEqual([...scan.paths.keys()], ["a", "b"]);
  assert.equal(scan.refusedCount, 1);
});

Deno.test("scanWorkspace() sees no device, pipe or .git", async () => {
  const device = tarHeader(file("dev"));
  device[156] = 0x33;
  const sum = device.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  device.set(stringBytes(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
  const scan = await scanWorkspace(
    stream(archive(device, file(".git/config"), file("sub/.GIT/hooks/x"), file("ok"))),
  );
  assert.deepEqual([...scan.paths.keys()], ["ok"]);
});

Deno.test("readTar() rejects a wrong checksum, a cut archive and malformed numbers", async () => {
  const good = archive(file("a", 5), stringBytes("12345"), tarPadding(5));
  const flipped = good.slice();
  flipped[0] = 0x62;
  await assert.rejects(names(flipped), TarError);
  await assert.rejects(names(good.subarray(0, 515)), TarError);
  await assert.rejects(names(good.subarray(0, 100)), TarError);
  const badPax = archive({ ...file("x", 6) }, stringBytes("9 a=b\n"), tarPadding(6));
  badPax[156] = 0x78;
  await assert.rejects(names(badPax), TarError);
});

Deno.test("readTar() does not take a header's word for a size beyond its limits", async () => {
  const pax = "24 size=99999999999999999\n";
  const bytes = archive(
    Object.assign(file("x", pax.length)),
    stringBytes(pax),
    tarPadding(pax.length),
    file("y"),
  );
  bytes[156] = 0x78;
  await assert.rejects(names(bytes), TarError);
});

Deno.test("readTar() reads what the writer writes: long names, long links, odd bytes", async () => {
  const long = `${"d".repeat(90)}/${"e".repeat(200)}`;
  const bytes = archive(
    file(long, 3),
    stringBytes("abc"),
    tarPadding(3),
    link("l", "t".repeat(300)),
    file("caf\xe9\xff"),
  );
  const entries: Omit<TarEntry, "content">[] = [];
  const contents: string[] = [];
  for await (const { content, ...entry } of readTar(stream(bytes, 7))) {
    entries.push(entry);
    let text = "";
    for await (const chunk of content) text += new TextDecoder().decode(chunk);
    contents.push(text);
  }
  assert.deepEqual(entries.map((entry) => entry.name), [long, "l", "caf\xe9\xff"]);
  assert.equal(entries[1]?.linkName, "t".repeat(300));
  assert.deepEqual(contents, ["abc", "", ""]);
});

Deno.test("readTar() survives random damage: entries or a TarError, nothing else", async () => {
  const good = archive(
    file("a", 600),
    new Uint8Array(1024),
    link("b", "c"),
    file("n".repeat(150), 1),
    tarPadding(511),
  );
  let seed = 12345;
  const random = (limit: number): number => {
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    return (seed >>> 0) % limit;
  };
  for (let round = 0; round < 500; round++) {
    const bytes = good.slice(0, 1 + random(good.length));
    for (let flips = 0; flips < 4; flips++) bytes[random(bytes.length)] = random(256);
    try {
      await scanWorkspace(stream(bytes));
    } catch (error) {
      assert.ok(error instanceof TarError, String(error));
    }
  }
});
