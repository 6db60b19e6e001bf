import { equal, match, rejects } from "node:assert/strict";
import { join } from "node:path";
import { ImageError } from "../../src/images/image_error.ts";
import { type KernelRelease, unpackRelease } from "../../src/images/kernel_source.ts";
import { run } from "../support/command.ts";

const options = { signal: undefined, onBytes: () => {} };

/** A server on loopback with one release of a kernel, made here. */
async function withRelease(
  test: (folder: string, release: KernelRelease, requests: () => number) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-source-" });
  await Deno.mkdir(join(folder, "in/linux-9.9.9"), { recursive: true });
  await Deno.mkdir(join(folder, "out"));
  await Deno.writeTextFile(join(folder, "in/linux-9.9.9/Makefile"), "VERSION = 9\n");
  const archive = join(folder, "linux-9.9.9.tar.xz");
  run("tar", ["-C", join(folder, "in"), "-cJf", archive, "linux-9.9.9"]);
  const content = await Deno.readFile(archive);
  const sha256 = new Uint8Array(await crypto.subtle.digest("SHA-256", content)).toHex();
  let count = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
    count++;
    return new Response(content);
  });
  try {
    const url = `http://127.0.0.1:${server.addr.port}/linux-9.9.9.tar.xz`;
    await test(folder, { version: "9.9.9", url, sha256 }, () => count);
  } finally {
    await server.shutdown();
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("unpackRelease() downloads a release once, checks it and unpacks it", async () => {
  await withRelease(async (folder, release, requests) => {
    for (let round = 0; round < 2; round++) {
      const { tree, version } = await unpackRelease(join(folder, "out"), folder, release, options);
      equal(version, "9.9.9");
      equal(await Deno.readTextFile(join(tree, "Makefile")), "VERSION = 9\n");
    }
    equal(requests(), 1);
  });
});

Deno.test("unpackRelease() refuses a release with another checksum and keeps nothing of it", async () => {
  await withRelease(async (folder, release) => {
    const wrong = { ...release, sha256: "0".repeat(64) };
    await rejects(unpackRelease(join(folder, "out"), folder, wrong, options), (error: ImageError) => {
      equal(error.code, "bad_checksum");
      match(error.message, /not Linux 9\.9\.9/);
      return true;
    });
    equal([...Deno.readDirSync(join(folder, "kernel-source"))].length, 0);
  });
});

Deno.test("unpackRelease() says what to do where nobody answers", async () => {
  await withRelease(async (folder, release) => {
    // Port 9 of loopback: nobody listens there.
    const away = { ...release, url: "http://127.0.0.1:9/linux-9.9.9.tar.xz" };
    await rejects(unpackRelease(join(folder, "out"), folder, away, options), (error: ImageError) => {
      equal(error.code, "unreachable");
      match(error.hint, /kernel\.org/);
      return true;
    });
  });
});
