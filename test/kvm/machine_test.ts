import { deepEqual, equal, ok } from "node:assert/strict";
import { KICK_SIGNAL } from "../../src/machine/vcpu_thread.ts";
import { Machine } from "../../src/machine/machine.ts";
import { exists, run } from "../support/command.ts";
import { asm, elfOf } from "../support/tiny_guest.ts";
import { TestVmm } from "../support/vmm.ts";

const ignore = !exists("/dev/kvm");
const isRoot = Deno.uid() === 0;

function spinningKernel(): string {
  const path = Deno.makeTempFileSync({ prefix: "paddock-guest-" });
  Deno.writeFileSync(path, elfOf(Uint8Array.from(asm.spin)));
  return path;
}

const openFiles = (): string[] =>
  [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => {
    try {
      return Deno.readLinkSync(`/proc/self/fd/${name}`);
    } catch {
      return "the directory that is being read";
    }
  }).filter((path) => /kvm|eventpoll|eventfd|memfd|guest-ram/.test(path)).sort();

/** Waits until what is open is `expected`: the runtime closes its own part of a Worker a moment after its end. */
async function openFilesSettle(expected: string[]): Promise<void> {
  for (let left = 100; left > 0 && openFiles().length > expected.length; left--) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const known = new Set(expected);
  deepEqual(openFiles().filter((path) => !known.has(path)), []);
  ok(openFiles().length <= expected.length, openFiles().join(" "));
}

Deno.test({
  name: "a machine releases every descriptor and its memory, once no thread uses them",
  ignore,
  async fn(): Promise<void> {
    const listener = (): void => {};
    Deno.addSignalListener(KICK_SIGNAL.name, listener);
    const kernelPath = spinningKernel();
    try {
      const config = { kernelPath, cmdline: "", memoryMib: 32, cpus: 2, disks: [] };
      // The first start opens what the runtime keeps.
      const first = await Machine.start(config, () => {});
      first.stop(0);
      await first.ended;
      const before = openFiles();
      for (let round = 0; round < 10; round++) {
        const machine = await Machine.start(config, () => {});
        ok(Deno.readTextFileSync("/proc/self/maps").includes("guest-ram"));
        machine.stop(0);
        equal((await machine.ended).reason, "killed");
      }
      await openFilesSettle(before);
      ok(!Deno.readTextFileSync("/proc/self/maps").includes("guest-ram"));
    } finally {
      Deno.removeSync(kernelPath);
      Deno.removeSignalListener(KICK_SIGNAL.name, listener);
    }
  },
});

Deno.test({
  name: "a machine that cannot be made leaves nothing open",
  ignore,
  async fn(): Promise<void> {
    const before = openFiles();
    const kernelPath = spinningKernel();
    try {
      const disks = [{ path: "/nonexistent/disk.img", format: "raw" as const }];
      const config = { kernelPath, cmdline: "", memoryMib: 32, cpus: 1, disks };
      await Machine.start(config, () => {}).then(
        () => ok(false, "the machine started without its disk"),
        (error) => equal(error.message, 'open "/nonexistent/disk.img": ENOENT'),
      );
      await openFilesSettle(before);
    } finally {
      Deno.removeSync(kernelPath);
    }
  },
});

Deno.test({
  name: isRoot ? "the TAP device that is named is the one that is used" : "TAP by name (skipped: needs root)",
  ignore: ignore || !isRoot,
  async fn(): Promise<void> {
    const namespace = `pdk-tap-${Deno.pid}`;
    const kernelPath = spinningKernel();
    run("ip", ["netns", "add", namespace]);
    try {
      await using vmm = new TestVmm(namespace);
      await vmm.start({ kernelPath, net: { tap: "my-own-tap" } });
      await vmm.until("started");
      const links = run("ip", ["netns", "exec", namespace, "ip", "-o", "link"]);
      ok(links.includes("my-own-tap"), links);
    } finally {
      run("ip", ["netns", "del", namespace]);
      Deno.removeSync(kernelPath);
    }
  },
});
