import assert from "node:assert/strict";
import { forEachLine } from "../../src/images/command.ts";
import { parsePrintUris } from "../../src/images/debs.ts";
import { contentKey } from "../../src/images/digest.ts";
import { HOST_TOOLS, installCommand, packageOf } from "../../src/images/host_tools.ts";
import { lostOptions } from "../../src/images/kernel.ts";

Deno.test("apt's list of addresses gives names, decoded versions and sizes", () => {
  const text =
    "'http://deb.debian.org/debian/pool/main/g/git/git_2.39.5-0%2bdeb12u3_amd64.deb' git_1%3a2.39.5-0+deb12u3_amd64.deb 7264380 SHA256:aa\nNotice: x\n";
  assert.deepEqual(parsePrintUris(text), [
    {
      fileName: "git_1%3a2.39.5-0+deb12u3_amd64.deb",
      name: "git",
      version: "1:2.39.5-0+deb12u3",
      sizeBytes: 7264380,
    },
  ]);
});

Deno.test("options that the kernel dropped or kept against our will are found", () => {
  const wanted = "# a comment\nCONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n# CONFIG_D is not set\n";
  assert.deepEqual(lostOptions(wanted, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n"), [
    "CONFIG_B=y",
    "# CONFIG_C is not set",
  ]);
});

Deno.test("content keys tell pieces apart by where they end", () => {
  assert.notEqual(contentKey("ab", "c"), contentKey("a", "bc"));
  assert.equal(contentKey("a", "b"), contentKey("a", "b"));
});

Deno.test("lines are cut wherever the chunks end", async () => {
  const chunks = ["one\ntw", "o\n", "three"].map((text) => new TextEncoder().encode(text));
  const lines: string[] = [];
  await forEachLine(ReadableStream.from(chunks), (line) => lines.push(line));
  assert.deepEqual(lines, ["one", "two", "three"]);
});

Deno.test("the install command names each package once", () => {
  const git = HOST_TOOLS.filter((entry) => entry.tool === "git");
  assert.deepEqual(installCommand([...git, ...git]).slice(-1), ["git"]);
  assert.equal(packageOf("/usr/bin/flex"), "flex");
  assert.equal(packageOf("no-such-tool"), undefined);
});
