/**
 * Builds something into a folder named by its content: at most one process builds at a time, and what is in
 * place is always complete.
 *
 * @module
 */
import { dirname } from "node:path";
import { asImageError, ImageError } from "./image_error.ts";

/** Whether `path` exists. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** How long to wait between looks at a lock that someone else holds, in `ms`. */
const LOCK_POLL_MS = 250;

/** Runs `body` while holding the lock file `path`; the kernel drops the lock of a process that dies. */
export async function withLock<T>(
  path: string,
  signal: AbortSignal | undefined,
  body: () => Promise<T>,
): Promise<T> {
  await Deno.mkdir(dirname(path), { recursive: true });
  using file = await Deno.open(path, { create: true, write: true, read: true });
  while (!await file.tryLock(true)) {
    if (signal?.aborted) {
      throw new ImageError("aborted", "Stopped while another build was running", "Run the command again");
    }
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
  return await body();
}

/**
 * Makes the folder `finalDir` by calling `build` with an empty temporary folder beside it, which is renamed
 * into place at the end. Returns at once when `finalDir` exists. What a killed build left is removed.
 */
export async function buildOnce(
  finalDir: string,
  build: (temporaryDir: string) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  if (await exists(finalDir)) return;
  if (Deno.env.get("PADDOCK_CACHE_READONLY") === "1") {
    throw new ImageError(
      "not_prepared",
      `"${finalDir}" is not in the cache`,
      "Prepare it on the machine that owns the cache",
    );
  }
  const temporaryDir = `${finalDir}.partial`;
  try {
    await withLock(`${finalDir}.lock`, signal, async () => {
      if (await exists(finalDir)) return;
      await removeAll(temporaryDir);
      await Deno.mkdir(temporaryDir, { recursive: true });
      try {
        await build(temporaryDir);
        await Deno.rename(temporaryDir, finalDir);
      } catch (error) {
        await removeAll(temporaryDir);
        throw error;
      }
    });
  } catch (error) {
    throw asImageError(error, `build "${finalDir}"`, finalDir);
  }
}

/** Removes a file or folder that may not exist. */
export async function removeAll(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
