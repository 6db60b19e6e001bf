/**
 * Unpacks an archive that a guest made into a folder of the user's. Nothing lands outside of it: names are checked, no
 * symbolic link is followed, neither one of the archive nor one that is there already, and set-id bits are dropped.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { byteStringToText } from "../session/tar_reader.ts";
import { checkedEntries } from "../session/workspace_scan.ts";

/** What came of it. */
export interface UnpackedFacts {
  /** files, folders and links that were made */
  readonly count: number;
  /** members that were unsafe, or stood behind a symbolic link, and were left out */
  readonly refusedCount: number;
}

/** What to unpack, and to where. */
export interface UnpackOptions {
  readonly tar: AsyncIterable<Uint8Array>;
  /** folder that gets the content; made if it is not there */
  readonly folder: string;
  /** name to give to the archive's only file (default: its own) */
  readonly fileName?: string | undefined;
}

/** Whether each folder on the way to `path` is a real one; those that are missing are made. */
async function makeParents(folder: string, path: string): Promise<boolean> {
  const parts = dirname(path).split("/").filter((part) => part !== "" && part !== ".");
  for (let count = 1; count <= parts.length; count++) {
    const parent = join(folder, ...parts.slice(0, count));
    const info = await Deno.lstat(parent).catch(() => undefined);
    if (info === undefined) await Deno.mkdir(parent);
    else if (!info.isDirectory) return false;
  }
  return true;
}

/** Makes room for a member: only a folder stays as it is, for a folder. */
async function clear(path: string, isFolder: boolean): Promise<boolean> {
  const info = await Deno.lstat(path).catch(() => undefined);
  if (info === undefined) return true;
  if (info.isDirectory) return isFolder;
  await Deno.remove(path);
  return true;
}

/** Unpacks; what was there before stays, unless a file of the same name comes. */
export async function unpackArchive(options: UnpackOptions): Promise<UnpackedFacts> {
  const { folder } = options;
  await Deno.mkdir(folder, { recursive: true });
  let count = 0;
  let refusedCount = 0;
  for await (const { path, entry } of checkedEntries(options.tar, () => refusedCount += 1)) {
    const name = byteStringToText(path);
    if (name === "") continue;
    const target = name === undefined ? undefined : options.fileName ?? name;
    const isFolder = entry.kind === "directory";
    if (
      target === undefined || !await makeParents(folder, target) ||
      !await clear(join(folder, target), isFolder)
    ) {
      refusedCount += 1;
      continue;
    }
    const full = join(folder, target);
    const made = await make(full, folder, entry);
    if (made) count += 1;
    else refusedCount += 1;
  }
  return { count, refusedCount };
}

type Entry = Awaited<ReturnType<ReturnType<typeof checkedEntries>["next"]>>["value"]["entry"];

async function make(path: string, folder: string, entry: Entry): Promise<boolean> {
  const link = byteStringToText(entry.linkName);
  const mode = entry.mode & 0o777;
  switch (entry.kind) {
    case "directory":
      await Deno.mkdir(path, { recursive: true });
      await Deno.chmod(path, mode | 0o700);
      return true;
    case "symlink":
      if (link === undefined) return false;
      await Deno.symlink(link, path);
      return true;
    case "hardlink":
      return link !== undefined && await linkInside(folder, link, path);
    case "file": {
      using file = await Deno.open(path, { write: true, createNew: true, mode });
      for await (const chunk of entry.content) {
        for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
      }
      return true;
    }
    default:
      return false;
  }
}

/** A hard link to a regular file that lies in the folder by its real path. */
async function linkInside(folder: string, name: string, path: string): Promise<boolean> {
  try {
    const [root, real] = await Promise.all([Deno.realPath(folder), Deno.realPath(join(folder, name))]);
    if (!real.startsWith(`${root}/`) || !(await Deno.lstat(real)).isFile) return false;
    await Deno.link(real, path);
    return true;
  } catch {
    // Its target was refused, or was never there
    return false;
  }
}
