import { equal, match, notEqual, ok } from "node:assert/strict";
import { join } from "node:path";
import type { DiskConfig } from "../../src/vmm/protocol.ts";
import { run } from "../support/command.ts";
import { ConsoleShell } from "../support/console_shell.ts";
import { CMDLINE, findLoadGuest } from "../support/load_guest/load_guest.ts";
import { TestVmm } from "../support/vmm.ts";

const MIB = 1024 * 1024;
const BLOCK_BYTES = 4096;
/** As in `flush_steps.c`. */
const IN_FLIGHT = 32;
const STRIDE = 40_503;
const FORMATS = ["raw", "qcow2"] as const;
/** Steps that a guest has flushed before its monitor is killed. */
const STEPS = 12;

const guest = await findLoadGuest();

/** A guest with `disk` as /dev/vdb. */
class LoadVm implements AsyncDisposable {
  readonly vmm = new TestVmm();
  #shell: ConsoleShell | undefined;

  static async boot(disk: DiskConfig): Promise<LoadVm> {
    ok(guest);
    const vm = new LoadVm();
    const root = { path: guest.diskPath, format: "raw", readOnly: true } as const;
    await vm.vmm.start({
      kernelPath: guest.kernelPath,
      cmdline: CMDLINE,
      memoryMib: 256,
      disks: [root, disk],
    });
    vm.#shell = await ConsoleShell.open(vm.vmm);
    return vm;
  }

  async tryRun(command: string): Promise<{ output: string; exitCode: number }> {
    ok(this.#shell);
    return await this.#shell.tryRun(command);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.vmm[Symbol.asyncDispose]();
  }
}

function fio(words: string): string {
  return `fio --name=check --filename=/dev/vdb --direct=1 --ioengine=libaio --iodepth=32 --verify=crc32c \
--verify_fatal=1 --minimal ${words} | cut -d';' -f3,5`;
}

/** A test of a disk of some format, in a folder of its own; skipped where the guest was not built. */
function diskTest(
  name: string,
  sizeMib: number,
  test: (disk: { path: string; format: "raw" | "qcow2" }) => Promise<void>,
): void {
  for (const format of FORMATS) {
    Deno.test({
      name: `${name}: ${format}`,
      ignore: guest === undefined,
      async fn(): Promise<void> {
        // On a disk's file system, where transfers end later and in another order
        const folder = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "paddock-fio-" });
        try {
          const path = join(folder, `disk.${format}`);
          run("qemu-img", ["create", "-q", "-f", format, path, `${sizeMib}M`]);
          await test({ path, format });
        } finally {
          await Deno.remove(folder, { recursive: true });
        }
      },
    });
  }
}

/** The guest's view of a disk, as a raw file that nobody changes any more. */
function rawCopy({ path, format }: { path: string; format: "raw" | "qcow2" }): string {
  if (format === "raw") return path;
  match(run("qemu-img", ["check", path], [0, 3]), /No errors|leaked clusters were found/);
  run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", path, `${path}.raw`]);
  return `${path}.raw`;
}

diskTest(
  "fio finds what it wrote with 32 requests in flight, and notices a block that changed",
  32,
  async (disk) => {
    await using vm = await LoadVm.boot(disk);
    const mixed = await vm.tryRun(
      fio("--rw=randwrite --bsrange=4k-64k --size=12M --verify_backlog=64"),
    );
    equal(mixed.output, "check;0\n");
    // Once more on top of what is there, then read by a run of its own
    equal((await vm.tryRun(fio("--rw=randwrite --bs=4k --size=4M"))).output, "check;0\n");
    const readAll = fio("--rw=randread --bs=4k --size=4M");
    equal((await vm.tryRun(readAll)).output, "check;0\n");
    if (disk.format === "qcow2") return;
    // The check can fail: one byte of what was read is another
    using file = await Deno.open(disk.path, { read: true, write: true });
    const byte = new Uint8Array(1);
    await file.seek(3 * MIB + 2000, Deno.SeekMode.Start);
    await file.read(byte);
    await file.seek(-1, Deno.SeekMode.Current);
    await file.write(Uint8Array.of(~(byte[0] ?? 0)));
    notEqual((await vm.tryRun(readAll)).output, "check;0\n");
  },
);

/** Writes of the steps from `first` to before `end` whose blocks do not hold what `flush_steps.c` put there. */
async function wrongWrites(
  path: string,
  [first, end]: readonly [number, number],
  blockCount: number,
): Promise<number[]> {
  using file = await Deno.open(path);
  const wrong: number[] = [];
  for (let number = first * IN_FLIGHT; number < end * IN_FLIGHT; number++) {
    const block = number * STRIDE % blockCount;
    const bytes = new Uint8Array(BLOCK_BYTES);
    await file.seek(block * BLOCK_BYTES, Deno.SeekMode.Start);
    await file.read(bytes);
    const words = new BigUint64Array(bytes.buffer);
    if (!words.every((word) => word === BigInt(number + 1))) wrong.push(number);
  }
  return wrong;
}

diskTest(
  "every flush that was completed is on the disk after the monitor is killed in the middle",
  64,
  async (disk) => {
    const blockCount = 64 * MIB / BLOCK_BYTES;
    let steps = 0;
    {
      await using vm = await LoadVm.boot(disk);
      const writing = vm.tryRun(`flush_steps /dev/vdb ${blockCount}`);
      writing.catch(() => {/* its guest is killed under it */});
      await vm.vmm.untilConsole(`flushed ${STEPS}\n`);
      vm.vmm.kill("SIGKILL");
      await vm.vmm.status;
      await vm[Symbol.asyncDispose]();
      const reported = vm.vmm.console.matchAll(/flushed (\d+)\n/g);
      steps = 1 + Math.max(...[...reported].map(([, step]) => Number(step)));
    }
    ok(steps * IN_FLIGHT < blockCount, `all ${blockCount} blocks were written before the end`);
    const copy = rawCopy(disk);
    equal((await wrongWrites(copy, [0, steps], blockCount)).join(), "");
    // The check can fail: what the guest would have written last is not there
    const all = blockCount / IN_FLIGHT;
    equal((await wrongWrites(copy, [all - 1, all], blockCount)).length, IN_FLIGHT);
  },
);
