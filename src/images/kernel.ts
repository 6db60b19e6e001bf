/**
 * Builds the guest's kernel and its power module from the kernel's source and our small configuration.
 *
 * @module
 */
import { join } from "node:path";
import { buildOnce } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { contentKey } from "./digest.ts";
import { requireTools } from "./host_tools.ts";
import { ImageError } from "./image_error.ts";
import { KERNEL_PACKAGE, unpackKernelSource } from "./kernel_source.ts";
import { cacheDir, sourceDir } from "./paths.ts";
import type { OnProgress } from "./progress.ts";

/** A built kernel. */
export interface GuestKernel {
  /** stripped ELF file, entered directly */
  readonly vmlinuxPath: string;
  /** the same kernel compressed, with its real-mode setup code */
  readonly bzImagePath: string;
  readonly powerModulePath: string;
  /** version of the source it was built from */
  readonly version: string;
}

/** Lines that a whole build prints, for the progress bar; recorded from one. */
const BUILD_LINES = 2060;

/** Builds the kernel, or finds it in the cache. @throws {ImageError} */
export async function prepareKernel(
  options: { onProgress: OnProgress; signal?: AbortSignal | undefined; step: string },
): Promise<GuestKernel> {
  const folder = join(cacheDir(), "kernel", await kernelKey());
  await buildOnce(folder, (temporary) => build(temporary, options), options.signal);
  return {
    vmlinuxPath: join(folder, "vmlinux"),
    bzImagePath: join(folder, "bzImage"),
    powerModulePath: join(folder, "paddock_power.ko"),
    version: (await Deno.readTextFile(join(folder, "version"))).trim(),
  };
}

/** Names a kernel by what it is made from: configuration, power module and source package. */
export async function kernelKey(): Promise<string> {
  const guest = join(sourceDir(), "guest-module");
  const files = ["kernel.config", "power/paddock_power.c", "power/Makefile"];
  return contentKey(
    KERNEL_PACKAGE,
    ...await Promise.all(files.map((file) => Deno.readFile(join(guest, file)))),
  );
}

async function build(
  folder: string,
  { onProgress, signal, step }: { onProgress: OnProgress; signal?: AbortSignal | undefined; step: string },
): Promise<void> {
  await requireTools("kernel");
  const work = join(folder, "work");
  const onBytes = (done: number, total: number): void =>
    onProgress({ type: "progress", step, done, total, unit: "bytes" });
  const { tree, version } = await unpackKernelSource(work, cacheDir(), { signal, onBytes });
  await configure(tree, signal);
  let lines = 0;
  const onLine = (line: string): void => {
    if (!/^ {2}[A-Z]/.test(line)) return;
    lines++;
    if (lines % 10 === 0) {
      onProgress({
        type: "progress",
        step,
        done: Math.min(lines, BUILD_LINES),
        total: BUILD_LINES,
        unit: "lines",
      });
    }
  };
  const make = ["make", "-C", tree, `-j${navigator.hardwareConcurrency}`];
  await runCommand([...make, "vmlinux", "bzImage", "modules"], { env: makeEnv(), signal, onLine });
  const power = join(work, "power");
  await Deno.mkdir(power);
  for (const name of ["paddock_power.c", "Makefile"]) {
    await Deno.copyFile(join(sourceDir(), "guest-module/power", name), join(power, name));
  }
  await runCommand([...make, `M=${power}`, "modules"], { env: makeEnv(), signal, onLine });
  await runCommand(["strip", "-s", "-o", join(folder, "vmlinux"), join(tree, "vmlinux")], { signal });
  await runCommand(["strip", "-g", "-o", join(folder, "paddock_power.ko"), join(power, "paddock_power.ko")], {
    signal,
  });
  await Deno.rename(join(tree, "arch/x86/boot/bzImage"), join(folder, "bzImage"));
  await Deno.writeTextFile(join(folder, "version"), version + "\n");
  await Deno.remove(work, { recursive: true });
}

/** Fixed names and times: the same source gives the same kernel. */
function makeEnv(): Record<string, string> {
  const path = Deno.env.get("PATH") ?? "/usr/sbin:/usr/bin:/sbin:/bin";
  return {
    PATH: path,
    HOME: Deno.env.get("HOME") ?? "/",
    LC_ALL: "C.UTF-8",
    KBUILD_BUILD_TIMESTAMP: "2026-01-01",
    KBUILD_BUILD_USER: "paddock",
    KBUILD_BUILD_HOST: "paddock",
  };
}

async function configure(tree: string, signal: AbortSignal | undefined): Promise<void> {
  const wanted = await Deno.readTextFile(join(sourceDir(), "guest-module/kernel.config"));
  const make = (target: string): Promise<string> =>
    runCommand(["make", "-C", tree, "-s", target], { env: makeEnv(), signal });
  await make("tinyconfig");
  const path = join(tree, ".config");
  await Deno.writeTextFile(path, wanted, { append: true });
  await make("olddefconfig");
  const lost = lostOptions(wanted, await Deno.readTextFile(path));
  if (lost.length === 0) return;
  throw new ImageError(
    "command_failed",
    `The kernel does not take these options: ${lost.join(", ")}`,
    "Correct guest-module/kernel.config",
  );
}

/** Lines of `wanted` that the final configuration does not hold. */
export function lostOptions(wanted: string, config: string): string[] {
  const lines = new Set(config.split("\n"));
  return wanted.split("\n").filter((line) => {
    const off = /^# (CONFIG_\w+) is not set$/.exec(line);
    // An option that cannot be seen at all is off as well
    if (off !== null) return [...lines].some((other) => other.startsWith(`${off[1] ?? ""}=`));
    return line.startsWith("CONFIG_") && !lines.has(line);
  });
}
