import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { addAlpinePackages } from "../../src/images/apk.ts";
import { parseApkIndex } from "../../src/images/apk_index.ts";
import { gunzipMember } from "../../src/images/apk_segments.ts";
import { exists } from "../../src/images/build_once.ts";
import { runCommand } from "../../src/images/command.ts";
import { ImageError, type ImageErrorCode } from "../../src/images/image_error.ts";

const KEY_NAME = "test@example.org-1.rsa.pub";
const ALPINE = generateKeyPairSync("rsa", { modulusLength: 2048 });
const STRANGER = generateKeyPairSync("rsa", { modulusLength: 2048 });

/** A package of the fake repository. */
interface FakeApk {
  readonly name: string;
  readonly depends?: string;
  readonly provides?: string;
  readonly files?: Readonly<Record<string, string>>;
  /** name of a file in `files` → name that the archive gives it */
  readonly rename?: string;
  /** spoils what the package or the index says */
  readonly wrong?: "control" | "data" | "absent";
}

const PACKAGES: readonly FakeApk[] = [
  {
    name: "bash",
    depends: "/bin/sh so:libreadline.so.8 so:libc.musl-x86_64.so.1 !bash-old",
    files: { "bin/bash": "bash" },
  },
  { name: "git", depends: "readline>=8.0", files: { "usr/bin/git": "git" } },
  {
    name: "readline",
    depends: "so:libc.musl-x86_64.so.1",
    provides: "so:libreadline.so.8=8.2",
    files: { "usr/lib/libreadline.so.8": "readline" },
  },
  { name: "ca-certificates-bundle", files: { "etc/ssl/certs/ca-certificates.crt": "CA" } },
  { name: "unrelated", files: { "usr/bin/unrelated": "" } },
];

const INSTALLED = "P:musl\nV:1.2.5-r0\np:so:libc.musl-x86_64.so.1=1\nF:lib\n\n" +
  "P:busybox-binsh\nV:1.36.1-r29\np:/bin/sh cmd:sh=1.36.1-r29\n\n";

/** One gzip member with a tar archive; a stream that others follow has no end of the archive. */
async function segment(
  files: Readonly<Record<string, string | Uint8Array>>,
  options: { cut?: boolean; rename?: string } = {},
): Promise<Uint8Array> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-apk-" });
  try {
    for (const [name, content] of Object.entries(files)) {
      await Deno.mkdir(dirname(join(folder, name)), { recursive: true });
      await Deno.writeFile(
        join(folder, name),
        typeof content === "string" ? new TextEncoder().encode(content) : content,
      );
    }
    const tar = join(folder, ".tar");
    const rename = options.rename === undefined ? [] : ["-P", `--transform=${options.rename}`];
    await runCommand(["tar", "-C", folder, "-b1", "-cf", tar, ...rename, ...Object.keys(files)]);
    const bytes = await Deno.readFile(tar);
    return gzipSync(options.cut ? bytes.subarray(0, bytes.length - 1024) : bytes);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function buildApk(apk: FakeApk): Promise<{ bytes: Uint8Array; record: string }> {
  const signature = await segment({ [`.SIGN.RSA.${KEY_NAME}`]: "unused" }, { cut: true });
  const data = await segment(apk.files ?? {}, apk.rename === undefined ? {} : { rename: apk.rename });
  const hash = createHash("sha256").update(apk.wrong === "data" ? "other" : data).digest("hex");
  const info = `pkgname = ${apk.name}\npkgver = 1.0-r0\ndatahash = ${hash}\n`;
  const script = "#!/bin/sh\nexit 1\n";
  const control = await segment({ ".PKGINFO": info, ".post-install": script }, { cut: true });
  const sum = createHash("sha1").update(apk.wrong === "control" ? "other" : control).digest("base64");
  const bytes = Buffer.concat([signature, control, data]);
  const fields = [`C:Q1${sum}`, `P:${apk.name}`, "V:1.0-r0", "A:x86_64", `S:${bytes.length}`];
  if (apk.depends !== undefined) fields.push(`D:${apk.depends}`);
  if (apk.provides !== undefined) fields.push(`p:${apk.provides}`);
  return { bytes, record: fields.join("\n") };
}

async function signedIndex(records: readonly string[], key: KeyObject, kind: string): Promise<Uint8Array> {
  const index = await segment({ DESCRIPTION: "test", APKINDEX: records.join("\n\n") + "\n\n" });
  const signature = sign(kind === "RSA" ? "sha1" : "sha256", index, key);
  return Buffer.concat([await segment({ [`.SIGN.${kind}.${KEY_NAME}`]: signature }, { cut: true }), index]);
}

/** What the fake repository serves besides the usual. */
interface Repository {
  readonly packages?: readonly FakeApk[];
  readonly key?: KeyObject;
  readonly kind?: "RSA" | "RSA256";
  readonly unsigned?: boolean;
}

interface Fixture {
  readonly cache: string;
  readonly root: string;
  readonly cdn: string;
  readonly requests: string[];
}

async function withRepository(
  repository: Repository,
  body: (fixture: Fixture) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-apk-" });
  const files = new Map<string, Uint8Array>();
  const records: string[] = [];
  for (const apk of repository.packages ?? PACKAGES) {
    const { bytes, record } = await buildApk(apk);
    records.push(record);
    if (apk.wrong !== "absent") files.set(`${apk.name}-1.0-r0.apk`, bytes);
  }
  const index = await signedIndex(records, repository.key ?? ALPINE.privateKey, repository.kind ?? "RSA");
  files.set("APKINDEX.tar.gz", repository.unsigned ? index.subarray(gunzipMember(index, "it")[1]) : index);
  const requests: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { pathname } = new URL(request.url);
    requests.push(pathname);
    const bytes = files.get(pathname.replace("/alpine/v3.20/main/x86_64/", ""));
    return bytes === undefined ? new Response("", { status: 404 }) : new Response(Uint8Array.from(bytes));
  });
  try {
    const root = join(folder, "root");
    await makeRoot(root);
    await body({
      cache: join(folder, "cache"),
      root,
      cdn: `http://127.0.0.1:${server.addr.port}/alpine`,
      requests,
    });
  } finally {
    await server.shutdown();
    await Deno.remove(folder, { recursive: true });
  }
}

async function makeRoot(root: string): Promise<void> {
  const pem = ALPINE.publicKey.export({ type: "spki", format: "pem" });
  const files = {
    "etc/alpine-release": "3.20.3\n",
    [`etc/apk/keys/${KEY_NAME}`]: pem.toString(),
    "lib/apk/db/installed": INSTALLED,
  };
  for (const [name, content] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(root, name)), { recursive: true });
    await Deno.writeTextFile(join(root, name), content);
  }
}

async function expectFailure(
  { cache, root, cdn }: Fixture,
  code: ImageErrorCode,
  message: RegExp,
): Promise<void> {
  const result = await addAlpinePackages(cache, root, { cdn }).catch((error: unknown) => error);
  assert.ok(result instanceof ImageError, String(result));
  assert.equal(result.code, code, result.message);
  assert.match(result.message, message);
  assert.notEqual(result.hint, "");
}

/** The usual packages, with one of them changed. */
function changed(name: string, change: Partial<FakeApk>): FakeApk[] {
  return PACKAGES.map((apk) => apk.name === name ? { ...apk, ...change } : apk);
}

Deno.test("an Alpine root gets bash, git and the certificates, with what they need, and nothing else", () =>
  withRepository({}, async ({ cache, root, cdn, requests }) => {
    const progress: number[][] = [];
    const onBytes = (...pair: number[]): void => void progress.push(pair);
    const added = await addAlpinePackages(cache, root, { cdn, onBytes });
    assert.deepEqual(added, ["bash", "ca-certificates-bundle", "git", "readline"]);
    assert.equal(await Deno.readTextFile(join(root, "bin/bash")), "bash");
    assert.equal(await Deno.readTextFile(join(root, "usr/lib/libreadline.so.8")), "readline");
    assert.equal(await Deno.readTextFile(join(root, "etc/ssl/certs/ca-certificates.crt")), "CA");
    const top = [...Deno.readDirSync(root)].map((entry) => entry.name).sort();
    assert.deepEqual(top, ["bin", "etc", "lib", "usr"]);
    assert.equal(requests[0], "/alpine/v3.20/main/x86_64/APKINDEX.tar.gz");
    const [done, total] = progress.at(-1) ?? [];
    assert.ok(done !== undefined && done > 0 && done === total);
  }));

Deno.test("packages are downloaded once, and checked each time", () =>
  withRepository({}, async (fixture) => {
    const { cache, root, cdn, requests } = fixture;
    await addAlpinePackages(cache, root, { cdn });
    requests.length = 0;
    await addAlpinePackages(cache, root, { cdn });
    assert.deepEqual(requests, ["/alpine/v3.20/main/x86_64/APKINDEX.tar.gz"]);
    const folder = join(cache, "alpine/apks");
    for (const { name } of Deno.readDirSync(folder)) {
      assert.doesNotMatch(name, /partial/);
      if (name.endsWith("git-1.0-r0.apk")) await Deno.writeTextFile(join(folder, name), "spoiled");
    }
    await expectFailure(fixture, "bad_checksum", /"git"/);
    assert.equal((await addAlpinePackages(cache, root, { cdn }))?.length, 4);
  }));

Deno.test("an index that is signed with SHA-256 is taken", () =>
  withRepository({ kind: "RSA256" }, async ({ cache, root, cdn }) => {
    assert.equal((await addAlpinePackages(cache, root, { cdn }))?.length, 4);
  }));

Deno.test("an index that is unsigned, or signed with a key that the root does not know, is refused", async () => {
  await withRepository(
    { key: STRANGER.privateKey },
    (fixture) => expectFailure(fixture, "bad_checksum", /not signed with a key of the root/),
  );
  await withRepository(
    { unsigned: true },
    (fixture) => expectFailure(fixture, "bad_checksum", /not signed with a key of the root/),
  );
});

Deno.test("a package with a control segment other than the index's is refused, and not kept", () =>
  withRepository({ packages: changed("git", { wrong: "control" }) }, async (fixture) => {
    await expectFailure(fixture, "bad_checksum", /control segment of Alpine's package "git"/);
    const kept = [...Deno.readDirSync(join(fixture.cache, "alpine/apks"))].map((entry) => entry.name);
    assert.ok(!kept.some((name) => name.includes("git")), kept.join());
    assert.equal(await exists(join(fixture.root, "usr/bin/git")), false);
  }));

Deno.test("a package with a data segment other than its control segment's is refused", () =>
  withRepository(
    { packages: changed("readline", { wrong: "data" }) },
    (fixture) => expectFailure(fixture, "bad_checksum", /data segment of Alpine's package "readline"/),
  ));

Deno.test("a package that is not there, or that nothing provides, is named", async () => {
  await withRepository(
    { packages: changed("git", { wrong: "absent" }) },
    (fixture) => expectFailure(fixture, "unreachable", /git-1\.0-r0\.apk.*404/),
  );
  await withRepository(
    { packages: PACKAGES.filter((apk) => apk.name !== "readline") },
    (fixture) =>
      expectFailure(fixture, "unreachable", /no package "so:libreadline\.so\.8", which bash needs/),
  );
});

Deno.test("a package with a file outside the root is refused", async () => {
  for (const rename of ["s,^usr/bin/git,../escaped,", "s,^usr/bin/git,/tmp/paddock-escaped,"]) {
    await withRepository({ packages: changed("git", { rename }) }, async (fixture) => {
      await expectFailure(fixture, "bad_checksum", /"git" has a file outside the root/);
      assert.equal(await exists(join(fixture.root, "../escaped")), false);
      assert.equal(await exists("/tmp/paddock-escaped"), false);
    });
  }
});

Deno.test("a package whose file would follow a link of the root out of it is refused", () =>
  withRepository({ packages: changed("git", { files: { "var/run/git": "" } }) }, async (fixture) => {
    const outside = join(fixture.root, "../outside");
    await Deno.mkdir(outside);
    await Deno.mkdir(join(fixture.root, "var"));
    await Deno.symlink(outside, join(fixture.root, "var/run"));
    await expectFailure(fixture, "bad_checksum", /"git" has a file outside the root: "var\/run\/git"/);
    assert.deepEqual([...Deno.readDirSync(outside)], []);
  }));

Deno.test("a CDN that refuses the connection, or has no such release, leaves the root as it is", () =>
  withRepository({}, async ({ cache, root, cdn, requests }) => {
    assert.equal(await addAlpinePackages(cache, root, { cdn: "http://127.0.0.1:1/alpine" }), undefined);
    await Deno.writeTextFile(join(root, "etc/alpine-release"), "3.99.0\n");
    assert.equal(await addAlpinePackages(cache, root, { cdn }), undefined);
    assert.deepEqual(requests, ["/alpine/v3.99/main/x86_64/APKINDEX.tar.gz"]);
    await Deno.remove(join(root, "etc/alpine-release"));
    assert.equal(await addAlpinePackages(cache, root, { cdn }), undefined);
    assert.equal(await exists(join(root, "bin")), false);
  }));

Deno.test("a CDN that takes the connection and never answers is given up after seconds", () =>
  withRepository({}, async ({ cache, root }) => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const accepted = listener.accept();
    const started = performance.now();
    const cdn = `http://127.0.0.1:${listener.addr.port}`;
    assert.equal(await addAlpinePackages(cache, root, { cdn }), undefined);
    assert.ok(performance.now() - started < 8000);
    (await accepted).close();
    listener.close();
  }));

Deno.test("parseApkIndex() drops versions and conflicts", () => {
  const [record] = parseApkIndex(
    "C:Q1abc=\nP:a\nV:1-r0\nS:5\nD:b>=1 so:x.so.1 !c d~2\np:cmd:a=1-r0 so:y=2\n",
  );
  assert.deepEqual(record?.depends, ["b", "so:x.so.1", "d"]);
  assert.deepEqual(record?.provides, ["a", "cmd:a", "so:y"]);
  assert.equal(record?.controlSha1, "abc=");
});

Deno.test("gunzipMember() splits members, also behind a header with a name, and refuses what is cut off", () => {
  const first = gzipSync("first");
  const named = Buffer.concat([first.subarray(0, 3), Buffer.from([8]), first.subarray(4, 10)]);
  const member = Buffer.concat([named, Buffer.from("name\0"), first.subarray(10)]);
  const [content, byteLength] = gunzipMember(Buffer.concat([member, gzipSync("second")]), "it");
  assert.equal(new TextDecoder().decode(content), "first");
  assert.equal(byteLength, member.length);
  for (const end of [5, 12, first.length - 4]) {
    assert.throws(() => gunzipMember(first.subarray(0, end), "it"), ImageError);
  }
});
