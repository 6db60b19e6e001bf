import { deepEqual, equal, match, ok } from "node:assert/strict";
import { join } from "node:path";
import { run } from "../support/command.ts";
import { LinuxVm } from "../support/linux_vm.ts";
import { Random } from "../support/random.ts";

const MIB = 1024 * 1024;

async function sha256(path: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(path));
  return new Uint8Array(digest).toHex();
}

async function powerOff(vm: LinuxVm): Promise<void> {
  await vm.vmm.send({ type: "stop", graceMs: 30_000 });
  equal((await vm.vmm.until("stopped")).reason, "poweroff");
  await vm.vmm.status;
}

Deno.test("what a guest writes to a qcow2 disk is exactly what qemu-img converts, and the image has no error", async () => {
  const folder = await Deno.makeTempDir({ prefix: "paddock-disk-" });
  try {
    const path = join(folder, "data.qcow2");
    const base = join(folder, "base.raw");
    await Deno.writeFile(base, crypto.getRandomValues(new Uint8Array(65_536)));
    await Deno.truncate(base, 64 * MIB);
    await using vm = await LinuxVm.boot({
      moreDisks: [{ path, format: "qcow2", overlayOf: { path: base, format: "raw" } }],
    });
    // Random places and sizes, holes and discards between: then the guest's own sum of the whole disk
    const { output, exitCode } = await vm.sh(`
      set -e
      for place in 1 700 33 2000 5555 16000 9 12345; do
        dd if=/dev/urandom of=/dev/vdb bs=4096 seek=$place count=$((place % 97 + 3)) conv=notrunc 2> /dev/null
      done
      blkdiscard -o 20971520 -l 1048576 /dev/vdb || dd if=/dev/zero of=/dev/vdb bs=1M seek=20 count=1 conv=notrunc 2> /dev/null
      sync
      echo 3 > /proc/sys/vm/drop_caches
      sha256sum < /dev/vdb`);
    equal(exitCode, 0, output);
    await powerOff(vm);
    match(run("qemu-img", ["check", path]), /No errors/);
    run("qemu-img", ["convert", "-O", "raw", path, join(folder, "all.raw")]);
    equal(await sha256(join(folder, "all.raw")), output.split(" ")[0]);
    match(run("qemu-img", ["check", vm.overlayPath]), /No errors/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a guest's disk has no error after the monitor is killed in the middle of writes", async () => {
  for (let round = 0; round < 2; round++) {
    await using vm = await LinuxVm.boot();
    const marker = `flushed-${round}`;
    equal((await vm.sh(`echo ${marker} > /root/marker && sync`)).exitCode, 0);
    const writing = vm.sh(
      "while :; do dd if=/dev/urandom of=/root/noise bs=64k count=64 conv=fsync 2> /dev/null; done",
    );
    writing.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 1500));
    vm.vmm.kill("SIGKILL");
    await vm.vmm.status;
    const check = JSON.parse(run("qemu-img", ["check", "--output=json", vm.overlayPath], [0, 3]));
    equal(check.corruptions ?? 0, 0);
    equal(check["check-errors"], 0);
    // The file system recovers by its journal, and what was flushed is there.
    const raw = join(vm.folder, "after.raw");
    run("qemu-img", ["convert", "-O", "raw", vm.overlayPath, raw]);
    run("e2fsck", ["-fy", raw], [0, 1]);
    match(run("debugfs", ["-R", "cat /root/marker", raw]), new RegExp(marker));
  }
});

Deno.test("bytes go through vsock unchanged in both directions, on many streams at once", async () => {
  await using vm = await LinuxVm.boot();
  const streams = Array.from({ length: 12 }, async (_, index) => {
    const { output } = await vm.sh(
      `dd if=/dev/zero bs=1M count=2 2> /dev/null | tr '\\0' '${String.fromCharCode(97 + index)}'`,
    );
    equal(output.length, 2 * MIB);
    equal(new Set(output).size, 1);
    equal(output[0], String.fromCharCode(97 + index));
  });
  await Promise.all(streams);
});

Deno.test("a disk has a queue a vCPU, its serial number, and the rate that it is held to", async () => {
  const path = await Deno.makeTempFile({ prefix: "paddock-disk-" });
  try {
    await Deno.truncate(path, 64 * MIB);
    const rateLimit = { bytesPerSecond: 4 * MIB };
    await using vm = await LinuxVm.boot({
      cpus: 2,
      moreDisks: [{ path, format: "raw", serial: "PADDOCK-7", rateLimit }],
    });
    const facts = "cd /sys/block/vdb; ls mq | wc -l; cat serial; echo; cat queue/physical_block_size";
    deepEqual((await vm.sh(facts)).output.split("\n").slice(0, 3), ["2", "PADDOCK-7", "4096"]);
    const started = performance.now();
    // The first second's worth passes at once; of 16 MiB the rest takes three seconds.
    equal((await vm.sh("dd if=/dev/vdb of=/dev/null bs=64k count=256 iflag=direct 2>&1")).exitCode, 0);
    const elapsed = performance.now() - started;
    ok(elapsed > 2800, `16 MiB in ${elapsed} ms`);
    // The root disk is not held back by it.
    const other = vm.sh("dd if=/dev/vdb of=/dev/null bs=64k count=128 iflag=direct 2>&1");
    const quick = performance.now();
    equal((await vm.sh("dd if=/dev/vda of=/dev/null bs=4k count=16 iflag=direct 2>&1")).exitCode, 0);
    ok(performance.now() - quick < 1500, `${performance.now() - quick} ms`);
    await other;
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("memory that a guest no longer uses goes back to its host", async () => {
  await using vm = await LinuxVm.boot({ balloon: true });
  const guestRamMib = (): number => {
    const status = run("cat", [`/proc/${vm.pid}/status`]);
    return Number(/RssShmem:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  };
  const fill =
    "mkdir /ram && mount -t tmpfs t /ram && dd if=/dev/zero of=/ram/x bs=1M count=200 2> /dev/null";
  equal((await vm.sh(fill)).exitCode, 0);
  const used = guestRamMib();
  ok(used > 200, `${used} MiB`);
  await vm.sh("rm /ram/x");
  // Linux reports free pages two seconds after it has them, some at a time.
  for (let tries = 0; tries < 60 && guestRamMib() > used - 150; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  ok(guestRamMib() <= used - 150, `${used} MiB, then ${guestRamMib()} MiB`);
  // What was given back can be used again.
  equal((await vm.sh("dd if=/dev/zero of=/ram/y bs=1M count=200 && sha256sum /ram/y")).exitCode, 0);
});

Deno.test("a virtio console takes 64 KiB pasted at once, and follows the window's size", async () => {
  await using vm = await LinuxVm.boot({ console: "virtio", words: "console=hvc0" });
  const paste = new Random(64).bytes(65_536);
  const reading = vm.sh(
    "stty raw -echo < /dev/hvc0; echo reading > /dev/hvc0; head -c 65536 < /dev/hvc0 | sha256sum",
  );
  await vm.vmm.untilConsole("reading");
  await vm.vmm.send({ type: "console", data: paste.toBase64() });
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", paste)).toHex();
  equal((await reading).output.split(" ")[0], digest);

  await vm.vmm.send({ type: "resize", cols: 132, rows: 43 });
  let size = "";
  for (let tries = 0; tries < 20 && size !== "43 132\n"; tries++) {
    size = (await vm.sh("stty size < /dev/hvc0")).output;
  }
  equal(size, "43 132\n");
});

Deno.test("a guest has entropy from its host", async () => {
  await using vm = await LinuxVm.boot();
  match((await vm.sh("cat /sys/class/misc/hw_random/rng_current")).output, /virtio_rng/);
  const { output } = await vm.sh(
    "dd if=/dev/hwrng bs=64 count=16 2> /dev/null | sha256sum; dd if=/dev/hwrng bs=64 count=16 2> /dev/null | sha256sum",
  );
  const [first, second] = output.split("\n");
  ok(first !== second);
});

Deno.test("a guest's clock is its host's", async () => {
  await using vm = await LinuxVm.boot();
  const seconds = Number((await vm.sh("date +%s")).output);
  ok(Math.abs(seconds - Date.now() / 1000) < 5, `guest says ${seconds}`);
});
