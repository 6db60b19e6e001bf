/**
 * Unpacks an archive of a guest's files into a new folder. No symbolic link is ever made, so that nothing that is
 * written, now or later, ends up elsewhere.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { byteStringToText, safePath } from "../session/tar_reader.ts";
import {
  checkedEntries,
  type CheckedEntry,
  isGitInternal,
  readFileChunks,
} from "../session/workspace_scan.ts";

/** A symbolic link that an archive holds. */
export interface ArchivedLink {
  /** path in the archive, one character per byte */
  readonly name: string;
  /** target, one character per byte */
  readonly linkName: string;
}

async function place(folder: string, { path, entry }: CheckedEntry): Promise<void> {
  const name = byteStringToText(path);
  const target = entry.kind === "hardlink" ? byteStringToText(safePath(entry.linkName) ?? "") : "";
  if (name === undefined || target === undefined) return;
  const to = join(folder, name);
  await Deno.mkdir(dirname(to), { recursive: true });
  if (entry.kind === "hardlink") {
    return target === "" ? undefined : await Deno.copyFile(join(folder, target), to);
  }
  // The owner can read it, whatever the guest made of it
  using file = await Deno.open(to, { write: true, createNew: true, mode: (entry.mode & 0o777) | 0o600 });
  for await (const chunk of entry.content) {
    for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
  }
}

/** Unpacks the files of an archive into `folder`, which must not exist; gives the links that were not made. */
export async function unpackFiles(archive: string, folder: string): Promise<ArchivedLink[]> {
  await Deno.mkdir(folder);
  const links: ArchivedLink[] = [];
  for await (const checked of checkedEntries(readFileChunks(archive), () => {})) {
    const { path, entry } = checked;
    if (path === "" || isGitInternal(path)) continue;
    if (entry.kind === "symlink") links.push({ name: path, linkName: entry.linkName });
    if (entry.kind !== "file" && entry.kind !== "hardlink") continue;
    try {
      await place(folder, checked);
    } catch (error) {
      // A name that this file system does not take, or a file where another one needs a folder: the patch has both
      const { AlreadyExists, NotADirectory, NotFound, InvalidData } = Deno.errors;
      const isName = [AlreadyExists, NotADirectory, NotFound, InvalidData].some((kind) =>
        error instanceof kind
      );
      if (!isName && !/ENAMETOOLONG|EISDIR|ENOTDIR|name too long/i.test(String(error))) throw error;
    }
  }
  return links;
}
