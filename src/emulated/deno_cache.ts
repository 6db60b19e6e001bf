/**
 * Packs what becomes Deno's cache in the emulated host: npm packages and compiled modules. Compiling
 * there would take ten times as long, and there is no registry to reach.
 *
 * @module
 */
import { join } from "node:path";
import { removeAll } from "../images/build_once.ts";
import { runCommand } from "../images/command.ts";
import { sourceDir } from "../images/paths.ts";

/** Programs that run in the emulated host. */
const PROGRAMS = [
  "src/emulated/host_server.ts",
  "src/cli/main.ts",
  "src/vmm/main.ts",
  "src/machine/vcpu_worker.ts",
  "src/machine/io_worker.ts",
];

/** Makes the archive `path`; it appears when it is complete. `folder` is used to make it. @throws {ImageError} */
export async function packDenoCache(folder: string, path: string, signal?: AbortSignal): Promise<void> {
  await removeAll(folder);
  await Deno.mkdir(folder, { recursive: true });
  const deno = Deno.execPath();
  const info = JSON.parse(await runCommand([deno, "info", "--json"])) as { npmCache: string };
  // What this machine has need not be downloaded again; what it lacks, `deno cache` gets
  await runCommand(["sh", "-c", 'test ! -d "$1" || cp -r "$1" "$2/npm"', "copy", info.npmCache, folder], {
    signal,
  });
  const options = { cwd: sourceDir(), env: { ...Deno.env.toObject(), DENO_DIR: folder }, signal };
  await runCommand([deno, "cache", "--quiet", "--no-lock", ...PROGRAMS], options);
  // Running it once, up to its imports, also keeps the engine's code
  const warm = { ...options, env: { ...options.env, PADDOCK_WARM_UP: "1" } };
  await runCommand([
    deno,
    "run",
    "-A",
    "--quiet",
    "--no-lock",
    "--cached-only",
    join(sourceDir(), PROGRAMS[0] ?? ""),
  ], warm);
  // One file: opening each of a thousand shared ones takes milliseconds there
  await runCommand(["tar", "-C", folder, "-cf", `${path}.partial`, "."], { signal });
  await Deno.rename(`${path}.partial`, path);
  await removeAll(folder);
}
