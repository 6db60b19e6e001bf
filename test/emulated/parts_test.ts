import assert from "node:assert/strict";
import { writeCpio } from "../../src/emulated/cpio.ts";
import { loadOrder } from "../../src/emulated/host_image.ts";
import { chooseMemoryMib } from "../../src/emulated/host_process.ts";

Deno.test("modules are loaded after all that they need", () => {
  const dep =
    "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\nkernel/virtio-x.ko.xz: kernel/b.ko\nkernel/other.ko:\n";
  assert.deepEqual(loadOrder(dep, ["a", "virtio_x", "no_such"]), [
    "kernel/c.ko",
    "kernel/b.ko",
    "kernel/a.ko",
    "kernel/virtio-x.ko.xz",
  ]);
});

Deno.test("the emulated host gets at most half of what is free, within its bounds", () => {
  assert.equal(chooseMemoryMib(64 * 2 ** 30), 6144);
  assert.equal(chooseMemoryMib(8 * 2 ** 30), 4096);
  assert.equal(chooseMemoryMib(1 * 2 ** 30), 2560);
});

Deno.test("a cpio archive has its records on four-byte steps and ends with its trailer", () => {
  const archive = writeCpio([
    { kind: "folder", path: "bin" },
    { kind: "file", path: "bin/x", mode: 0o755, content: new TextEncoder().encode("hello") },
    { kind: "link", path: "y", target: "bin/x" },
  ]);
  const text = new TextDecoder().decode(archive);
  assert.equal(archive.length % 4, 0);
  assert.equal(text.match(/070701/g)?.length, 4);
  for (const match of text.matchAll(/070701/g)) assert.equal(match.index % 4, 0);
  assert.match(text, /TRAILER!!!/);
});

Deno.test({
  name: "the cpio program reads our archive",
  ignore: !(await new Deno.Command("sh", { args: ["-c", "command -v cpio"], stdout: "null" }).output())
    .success,
  fn: async () => {
    const archive = writeCpio([{ kind: "folder", path: "d" }, {
      kind: "file",
      path: "d/f",
      mode: 0o600,
      content: new TextEncoder().encode("hi"),
    }]);
    const child = new Deno.Command("cpio", { args: ["-tv"], stdin: "piped", stdout: "piped", stderr: "null" })
      .spawn();
    const writer = child.stdin.getWriter();
    await writer.write(archive);
    await writer.close();
    const output = new TextDecoder().decode((await child.output()).stdout);
    assert.match(output, /drwxr-xr-x.* d\n-rw-------.* 2 .* d\/f\n/);
  },
});
