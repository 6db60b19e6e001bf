import assert from "node:assert/strict";
import { join } from "node:path";
import { downloadAlpine, givenAlpine } from "../../src/images/alpine.ts";
import { buildOnce, exists } from "../../src/images/build_once.ts";
import { runCommand } from "../../src/images/command.ts";
import { ImageError, type ImageErrorCode } from "../../src/images/image_error.ts";
import { fetchNpmPackage } from "../../src/images/npm_package.ts";
import { makeExt4 } from "../../src/images/ext4.ts";

async function failure(body: Promise<unknown>): Promise<ImageError> {
  try {
    await body;
  } catch (error) {
    assert.ok(error instanceof ImageError, String(error));
    assert.notEqual(error.hint, "");
    return error;
  }
  assert.fail("it should have failed");
}

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-images-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** A loopback port where nothing listens. */
function closedPort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function withVariable(name: string, value: string, body: () => Promise<void>): Promise<void> {
  const before = Deno.env.get(name);
  Deno.env.set(name, value);
  try {
    await body();
  } finally {
    if (before === undefined) Deno.env.delete(name);
    else Deno.env.set(name, before);
  }
}

function expectCode(error: ImageError, code: ImageErrorCode, message: RegExp): void {
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
}

Deno.test("a given Alpine file whose name claims a release that it is not is refused", () =>
  withFolder(async (folder) => {
    const path = join(folder, "alpine-minirootfs-3.23.2-x86_64.tar.gz");
    await Deno.writeTextFile(path, "not Alpine");
    expectCode(await failure(givenAlpine(path)), "bad_checksum", /is not Alpine 3\.23\.2/);
  }));

Deno.test("a given Alpine file of another name is taken as it is", () =>
  withFolder(async (folder) => {
    const path = join(folder, "mine.tar.gz");
    await Deno.writeTextFile(path, "mine");
    assert.equal((await givenAlpine(path)).version, "unknown");
    expectCode(await failure(givenAlpine(join(folder, "none.tar.gz"))), "file_missing", /none\.tar\.gz/);
  }));

Deno.test("a CDN that serves another file is an error, and nothing of it stays in the cache", () =>
  withFolder(async (folder) => {
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      () => new Response("not Alpine"),
    );
    try {
      const cdn = `http://127.0.0.1:${server.addr.port}`;
      expectCode(await failure(downloadAlpine(folder, { cdn })), "bad_checksum", /not Alpine 3\.23\.2/);
    } finally {
      await server.shutdown();
    }
    const left: string[] = [];
    for await (const entry of Deno.readDir(join(folder, "alpine"))) left.push(entry.name);
    assert.deepEqual(left.filter((name) => !name.endsWith(".lock")), []);
  }));

Deno.test("a CDN that refuses the connection, or has no such file, is unreachable", () =>
  withFolder(async (folder) => {
    const cdn = `http://127.0.0.1:${closedPort()}`;
    expectCode(await failure(downloadAlpine(folder, { cdn })), "unreachable", /Cannot download/);
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      () => new Response("", { status: 404 }),
    );
    try {
      const there = `http://127.0.0.1:${server.addr.port}`;
      expectCode(await failure(downloadAlpine(folder, { cdn: there })), "unreachable", /404/);
    } finally {
      await server.shutdown();
    }
  }));

Deno.test("a CDN that takes the connection and never answers is given up after seconds", () =>
  withFolder(async (folder) => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const accepted = listener.accept();
    const started = performance.now();
    const cdn = `http://127.0.0.1:${listener.addr.port}`;
    expectCode(await failure(downloadAlpine(folder, { cdn })), "unreachable", /Cannot download/);
    assert.ok(performance.now() - started < 8000);
    (await accepted).close();
    listener.close();
  }));

const PACKAGE = { name: "@openai/codex", version: "0.169.0-linux-x64", integrity: "sha512-x", files: [] };

Deno.test("an npm registry that refuses the connection is unreachable", () =>
  withFolder((folder) =>
    withVariable("npm_config_registry", `http://127.0.0.1:${closedPort()}/`, async () => {
      await withVariable("npm_config_fetch_retry_mintimeout", "100", async () => {
        expectCode(
          await failure(fetchNpmPackage(folder, PACKAGE)),
          "unreachable",
          /registry does not answer/,
        );
      });
    })
  ));

Deno.test("an npm package that is not the pinned one is refused and not kept", () =>
  withFolder(async (folder) => {
    const tarball = await Deno.makeTempFile({ dir: folder, suffix: ".tgz" });
    await Deno.mkdir(join(folder, "package"));
    await Deno.writeTextFile(join(folder, "package/package.json"), '{"name":"small","version":"1.0.0"}');
    await runCommand(["tar", "-C", folder, "-czf", tarball, "package"]);
    const server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      async (request): Promise<Response> => {
        if (new URL(request.url).pathname.endsWith(".tgz")) return new Response(await Deno.readFile(tarball));
        const dist = { tarball: new URL("/small-1.0.0.tgz", request.url).href };
        return Response.json({
          name: "small",
          "dist-tags": { latest: "1.0.0" },
          versions: { "1.0.0": { name: "small", version: "1.0.0", dist } },
        });
      },
    );
    try {
      await withVariable("npm_config_registry", `http://127.0.0.1:${server.addr.port}/`, async () => {
        const wanted = { name: "small", version: "1.0.0", integrity: "sha512-AAAA", files: [] };
        expectCode(
          await failure(fetchNpmPackage(join(folder, "cache"), wanted)),
          "bad_checksum",
          /pinned SHA-512/,
        );
      });
    } finally {
      await server.shutdown();
    }
    const left: string[] = [];
    for await (const entry of Deno.readDir(join(folder, "cache/npm"))) left.push(entry.name);
    assert.deepEqual(left.filter((name) => !name.endsWith(".lock")), []);
  }));

Deno.test("a program that is not installed is named with the package that has it", async () => {
  await withVariable("PATH", "/nonexistent", async () => {
    const error = await failure(runCommand(["musl-gcc", "--version"]));
    expectCode(error, "tool_missing", /musl-gcc/);
    assert.match(error.hint, /apt-get install -y musl-tools/);
  });
});

Deno.test({
  name: "a full disk is said to be one, and leaves nothing half-built",
  ignore: Deno.uid() !== 0,
  fn: () =>
    withFolder(async (folder) => {
      const small = join(folder, "small");
      await Deno.mkdir(small);
      await runCommand(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small]);
      try {
        const content = join(folder, "content");
        await Deno.mkdir(content);
        await Deno.writeFile(join(content, "big"), crypto.getRandomValues(new Uint8Array(65536)));
        for (let i = 0; i < 80; i++) await Deno.copyFile(join(content, "big"), join(content, `big${i}`));
        const image = buildOnce(join(small, "image"), (temporary) =>
          makeExt4(content, join(temporary, "rootfs.img")));
        expectCode(await failure(image), "disk_full", /No space left/);
        const file = buildOnce(join(small, "file"), (temporary) =>
          Deno.writeFile(join(temporary, "x"), new Uint8Array(3 * 2 ** 20)));
        expectCode(await failure(file), "disk_full", /No space left/);
        assert.equal(await exists(join(small, "image")), false);
        assert.equal(await exists(join(small, "image.partial")), false);
        assert.equal(await exists(join(small, "file.partial")), false);
      } finally {
        await runCommand(["umount", small]);
      }
    }),
});

Deno.test("two builders of the same thing build it once, and the second waits", () =>
  withFolder(async (folder) => {
    let builds = 0;
    const build = (): Promise<void> =>
      buildOnce(join(folder, "thing"), async (temporary) => {
        builds++;
        await new Promise((resolve) => setTimeout(resolve, 100));
        await Deno.writeTextFile(join(temporary, "x"), "x");
      });
    await Promise.all([build(), build(), build()]);
    assert.equal(builds, 1);
  }));

Deno.test("what a killed build left is not taken for the thing itself", () =>
  withFolder(async (folder) => {
    const thing = join(folder, "thing");
    await Deno.mkdir(`${thing}.partial`);
    await Deno.writeTextFile(`${thing}.partial/half`, "");
    await buildOnce(thing, (temporary) => Deno.writeTextFile(join(temporary, "whole"), ""));
    assert.equal(await exists(join(thing, "half")), false);
    assert.equal(await exists(join(thing, "whole")), true);
  }));
