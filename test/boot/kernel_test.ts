import { equal, ok } from "node:assert/strict";
import { dirname, join } from "node:path";
import { writeCpio } from "../../src/emulated/cpio.ts";
import { LinuxVm, testImage } from "../support/linux_vm.ts";

/** offsets in a bzImage's setup header (Documentation/arch/x86/boot.rst) */
const XLOADFLAGS = 0x236;

async function bzImage(): Promise<string> {
  return join(dirname((await testImage()).kernelPath), "bzImage");
}

/** Orderly power-off: the reason, and the exits of the whole life. */
async function powerOff(vm: LinuxVm): Promise<{ reason: string; exits: number }> {
  await vm.vmm.send({ type: "stop", graceMs: 30_000 });
  const { reason, exits } = await vm.vmm.until("stopped");
  console.log(JSON.stringify(exits));
  return { reason, exits: Object.values(exits).reduce((sum, count) => sum + count, 0) };
}

Deno.test("an ELF kernel boots to its init, and stop powers it off in order", async () => {
  await using vm = await LinuxVm.boot();
  equal((await vm.sh("uname -s")).output, "Linux\n");
  const { reason, exits } = await powerOff(vm);
  equal(reason, "poweroff");
  console.log(
    `ready at ${vm.readyUptimeMs} ms of uptime; ${exits} exits to userspace from start to power-off`,
  );
});

Deno.test("a bzImage boots through its 64-bit entry", async () => {
  await using vm = await LinuxVm.boot({ kernelPath: await bzImage(), bootTimeoutMs: 120_000 });
  equal((await vm.sh("uname -m")).output, "x86_64\n");
});

Deno.test("a bzImage that has no 64-bit entry boots through the 32-bit one", async () => {
  const kernelPath = await Deno.makeTempFile({ prefix: "paddock-bzimage-" });
  try {
    const image = await Deno.readFile(await bzImage());
    image[XLOADFLAGS] = (image[XLOADFLAGS] ?? 0) & ~1;
    await Deno.writeFile(kernelPath, image);
    await using vm = await LinuxVm.boot({ kernelPath, bootTimeoutMs: 120_000 });
    equal((await vm.sh("uname -m")).output, "x86_64\n");
  } finally {
    await Deno.remove(kernelPath);
  }
});

Deno.test("an initrd is found by the kernel, and its init runs", async () => {
  const initrdPath = await Deno.makeTempFile({ prefix: "paddock-initrd-" });
  try {
    let init: Uint8Array;
    {
      // The guest's own init, taken out of its image: it is static and needs nothing beside it.
      await using vm = await LinuxVm.boot();
      const size = Number((await vm.sh("stat -c %s /sbin/paddock-init")).output);
      const parts: Uint8Array[] = [];
      const process = await vm.client.exec({
        argv: ["/bin/cat", "/sbin/paddock-init"],
        env: {},
        cwd: "/",
        user: "root",
        onStdout: (chunk) => void parts.push(chunk.slice()),
        onStderr: () => {},
      });
      await process.exit;
      init = new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer());
      equal(init.byteLength, size);
    }
    const folders = ["dev", "proc", "sys", "run", "tmp", "etc"].map((path) =>
      ({ kind: "folder", path }) as const
    );
    await Deno.writeFile(
      initrdPath,
      writeCpio([...folders, { kind: "file", path: "init", mode: 0o755, content: init }]),
    );
    await using vm = await LinuxVm.boot({ initrdPath });
    ok(vm.readyUptimeMs > 0);
  } finally {
    await Deno.remove(initrdPath);
  }
});

Deno.test("a guest sees 8 GiB of RAM, on both sides of the hole below 4 GiB", async () => {
  await using vm = await LinuxVm.boot({ memoryMib: 8192, bootTimeoutMs: 120_000 });
  const kib = Number(/MemTotal:\s+(\d+)/.exec((await vm.sh("cat /proc/meminfo")).output)?.[1]);
  ok(kib > 7.7 * 2 ** 20, `MemTotal is ${kib} KiB`);
  const { output } = await vm.sh(
    "dmesg | grep -c 'e820.*0x0000000100000000-0x000000023fffffff.*usable\\|0x0000000100000000-0x000000023fffffff'",
  );
  ok(Number(output) >= 1);
});

Deno.test("a guest sees two vCPUs", async () => {
  await using vm = await LinuxVm.boot({ cpus: 2, bootTimeoutMs: 120_000 });
  equal((await vm.sh("grep -c ^processor /proc/cpuinfo")).output, "2\n");
});

Deno.test("SIGTERM to the monitor shuts the guest down in order", async () => {
  await using vm = await LinuxVm.boot();
  vm.vmm.kill("SIGTERM");
  equal((await vm.vmm.until("stopped")).reason, "poweroff");
});

Deno.test("a guest that ignores the request to power off is killed after the grace time", async () => {
  await using vm = await LinuxVm.boot();
  // Without the module nobody hears the interrupt.
  equal((await vm.sh("rmmod paddock_power")).exitCode, 0);
  await vm.vmm.send({ type: "stop", graceMs: 1500 });
  equal((await vm.vmm.until("stopped")).reason, "killed");
});

Deno.test("a guest that reboots ends its VM as a reset", async () => {
  await using vm = await LinuxVm.boot();
  // The answer may not come any more: what counts is how the VM ends.
  vm.sh("busybox reboot -f || reboot -f").catch(() => {});
  equal((await vm.vmm.until("stopped")).reason, "reset");
});
