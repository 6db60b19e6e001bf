/**
 * Compiles the guest's PID 1: C, static, with musl.
 *
 * @module
 */
import { join } from "node:path";
import { buildOnce } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { folderKey } from "./digest.ts";
import { cacheDir, sourceDir } from "./paths.ts";

const FLAGS = ["-static", "-O2", "-s", "-std=gnu17", "-Wall", "-Wextra", "-Wshadow"];

/** Builds `paddock-init`, or finds it in the cache; returns its path. @throws {ImageError} */
export async function prepareGuestInit(signal?: AbortSignal): Promise<string> {
  const source = join(sourceDir(), "guest-module/init");
  const folder = join(cacheDir(), "guest-init", await folderKey(source));
  await buildOnce(folder, async (temporary) => {
    const files: string[] = [];
    for await (const entry of Deno.readDir(source)) {
      if (entry.name.endsWith(".c")) files.push(join(source, entry.name));
    }
    await runCommand(["musl-gcc", ...FLAGS, "-o", join(temporary, "paddock-init"), ...files.sort()], {
      signal,
    });
  }, signal);
  return join(folder, "paddock-init");
}
