/**
 * The monitor's code as it runs: one file for each of its threads. Deno keeps every module of a graph once for each
 * thread, source, compiled code and source map: in one file they are 2 MiB less, and load sooner.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildOnce } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { contentKey, folderKey } from "./digest.ts";
import { ImageError } from "./image_error.ts";
import { cacheDir, sourceDir } from "./paths.ts";

/** What the threads' code is made from. */
const FOLDERS = [
  "devices",
  ...["bus", "ffi", "host", "kvm", "machine", "memory", "virtio", "vmm"].map((layer) => `src/${layer}`),
];
const THREADS = ["src/vmm/main.ts", "src/machine/io_worker.ts", "src/machine/vcpu_worker.ts"];

/** The program's source, which runs as well. */
export const MONITOR_SOURCE = fileURLToPath(new URL("../vmm/main.ts", import.meta.url));

let prepared: Promise<string> | undefined;

/**
 * Path of the VMM process's program, made once and found in the cache from then on. Where it cannot be made (Deno's
 * bundler comes from npm's registry) it is {@linkcode MONITOR_SOURCE}.
 */
export function prepareMonitor(signal?: AbortSignal): Promise<string> {
  return prepared ??= build(signal).catch((error) => {
    if (!(error instanceof ImageError) || error.code === "aborted") {
      prepared = undefined;
      throw error;
    }
    return MONITOR_SOURCE;
  });
}

async function build(signal: AbortSignal | undefined): Promise<string> {
  const root = sourceDir();
  const key = contentKey(
    Deno.version.deno,
    ...await Promise.all(FOLDERS.map((name) => folderKey(join(root, name)))),
  );
  const folder = join(cacheDir(), "monitor", key);
  await buildOnce(folder, async (temporary) => {
    for (const source of THREADS) {
      const target = join(temporary, basename(source, ".ts") + ".js");
      const bundle = [
        Deno.execPath(),
        "bundle",
        "--quiet",
        "--no-lock",
        "--output",
        target,
        join(root, source),
      ];
      await runCommand(bundle, { signal });
    }
  }, signal);
  return join(folder, "main.js");
}

/** Folders that a VMM process reads code from when it runs `program`. */
export function monitorFolders(program: string): string[] {
  if (program.endsWith(".js")) return [dirname(program)];
  return ["src", "devices"].map((folder) => join(dirname(program), "../..", folder));
}
