/**
 * The programs that benches compare with, where a host has none of its own (the emulated host): QEMU and iperf3 out of
 * Debian's packages, with the libraries that they need, in a folder of the cache.
 *
 * @module
 */

import { basename, join } from "node:path";
import { buildOnce } from "../../src/images/build_once.ts";
import { runCommand } from "../../src/images/command.ts";
import { extractDebs, fetchDebs } from "../../src/images/debs.ts";
import { contentKey } from "../../src/images/digest.ts";
import { cacheDir } from "../../src/images/paths.ts";
import { buildLoadProgram } from "../support/load_guest/load_guest.ts";
import { exists, hasTool, run } from "../support/command.ts";

/** Arguments that a program's command begins with. */
export type Program = readonly [string, ...string[]];

/** Where the programs are; `undefined` where there is none. */
export interface BenchTools {
  readonly qemu: Program | undefined;
  readonly iperf3: Program | undefined;
  /** the guest's `ping_pong`, which serves here */
  readonly pingPong: string | undefined;
}

const PACKAGES = ["qemu-system-x86", "iperf3"];
const PROGRAMS = ["qemu-system-x86_64", "iperf3"];
/** What QEMU's microvm loads. */
const FIRMWARE = ["qemu/qboot.rom", "qemu/pvh.bin", "qemu/linuxboot_dma.bin", "seabios/bios-microvm.bin"];
const LIBRARIES = "usr/lib/x86_64-linux-gnu";
/** On the emulated host's own disk: the cache is a slow share there. */
const LOCAL_COPY = "/var/tmp/paddock-bench-tools";

function toolsFolder(): string {
  return join(cacheDir(), "bench-tools", contentKey("bench tools 1", ...PACKAGES, ...FIRMWARE));
}

/** Builds the folder, or finds it in the cache. @throws {ImageError} */
export async function prepareTools(): Promise<void> {
  await buildOnce(toolsFolder(), build);
}

/** Finds what this machine has, or else what {@linkcode prepareTools} has built. */
export function findTools(): BenchTools {
  const built = exists(toolsFolder()) ? localCopy() : undefined;
  const of = (name: string, ...args: string[]): Program | undefined => {
    if (hasTool(name)) return [name];
    if (built === undefined) return undefined;
    // By its own loader: nothing of the host's libraries is mixed in, and no other program has to start first
    return [join(built, "loader"), "--library-path", join(built, "lib"), join(built, name), ...args];
  };
  return {
    qemu: of("qemu-system-x86_64", "-L", join(built ?? "", "firmware")),
    iperf3: of("iperf3"),
    pingPong: built && join(built, "ping_pong"),
  };
}

function localCopy(): string {
  if (Deno.env.get("PADDOCK_CACHE_READONLY") !== "1") return toolsFolder();
  const copy = `${LOCAL_COPY}-${basename(toolsFolder())}`;
  if (!exists(copy)) {
    run("cp", ["-r", toolsFolder(), `${copy}.partial`]);
    Deno.renameSync(`${copy}.partial`, copy);
  }
  return copy;
}

async function build(folder: string): Promise<void> {
  const root = join(folder, "root");
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await Deno.mkdir(join(root, "usr", name), { recursive: true });
    await Deno.symlink(`usr/${name}`, join(root, name));
  }
  await extractDebs(await fetchDebs(cacheDir(), PACKAGES), root);
  for (const name of ["lib", "firmware"]) await Deno.mkdir(join(folder, name));
  for (const name of PROGRAMS) {
    await Deno.copyFile(join(root, "usr/bin", name), join(folder, name));
    await copyLibraries(join(folder, name), root, join(folder, "lib"));
  }
  await Deno.copyFile(join(root, "lib64/ld-linux-x86-64.so.2"), join(folder, "loader"));
  await Deno.chmod(join(folder, "loader"), 0o755);
  for (const path of FIRMWARE) {
    await Deno.copyFile(join(root, "usr/share", path), join(folder, "firmware", basename(path)));
  }
  await buildLoadProgram("ping_pong", join(folder, "ping_pong"));
  await Deno.remove(root, { recursive: true });
}

/** Copies the libraries that a program names, and those that they name. */
async function copyLibraries(program: string, root: string, target: string): Promise<void> {
  const headers = await runCommand(["objdump", "-p", program]);
  for (const [, name = ""] of headers.matchAll(/^ +NEEDED +(\S+)$/gm)) {
    const copy = join(target, name);
    if (exists(copy)) continue;
    const found = [LIBRARIES, "usr/lib", `${LIBRARIES}/pulseaudio`].find((place) =>
      exists(join(root, place, name))
    );
    if (found === undefined) continue; // a plug-in's: the program starts without
    await Deno.copyFile(join(root, found, name), copy);
    await copyLibraries(copy, root, target);
  }
}
