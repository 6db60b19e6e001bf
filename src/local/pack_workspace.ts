/**
 * Packs a folder of the user's into the archive that becomes the guest's workspace: for a git repository the
 * tracked files and those that are new but not ignored, as they are in the work tree, with a sanitised
 * `.git`; for any other folder, everything.
 *
 * @module
 */

import { join } from "node:path";
import { byteString, byteStringToText } from "../session/tar_reader.ts";
import { isSafeToHandOut } from "../session/changes.ts";
import { tarEnd, tarHeader, tarPadding } from "../session/tar_writer.ts";
import { type ArchiveSource, gitFolderSources, runGit } from "./git_folder.ts";
import { LocalError } from "./local_error.ts";

const CHUNK_BYTES = 256 * 1024;

/** What was left out of a workspace, for the user to know. */
export type OnSkipped = (path: string, reason: string) => void;

async function isRepositoryRoot(folder: string): Promise<boolean> {
  try {
    const prefix = await runGit(folder, ["rev-parse", "--is-inside-work-tree", "--show-prefix"]);
    return prefix === "true\n\n";
  } catch {
    // Not a repository, or git is not installed: it is packed as a plain folder.
    return false;
  }
}

async function isInsideRepository(folder: string): Promise<boolean> {
  try {
    return (await runGit(folder, ["rev-parse", "--is-inside-work-tree"])).trim() === "true";
  } catch (cause) {
    // Packed as a plain folder, a repository would take ignored files along.
    if (await Deno.lstat(join(folder, ".git")).then(() => true, () => false)) {
      throw new LocalError(
        "host",
        `Cannot pack the repository "${folder}": git is not installed or cannot read it`,
        {
          cause,
        },
      );
    }
    return false;
  }
}

async function* repositoryPaths(folder: string): AsyncGenerator<string> {
  const listed = await runGit(folder, ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
  let last = "";
  for (const path of listed.split("\0").filter((entry) => entry !== "").sort()) {
    // A path in conflict is listed once for each side.
    if (path !== last) yield path.replace(/\/$/, "");
    last = path;
  }
}

async function* folderPaths(folder: string, prefix = ""): AsyncGenerator<string> {
  const entries = await Array.fromAsync(Deno.readDir(join(folder, prefix)));
  entries.sort((a, b) => a.name < b.name ? -1 : 1);
  for (const entry of entries) {
    const path = prefix === "" ? entry.name : `${prefix}/${entry.name}`;
    const kind = entry.isDirectory ? "directory" : entry.isSymlink ? "symlink" : "file";
    // A repository deeper down keeps its history; its configuration may hold credentials.
    if (!isSafeToHandOut(path, kind)) continue;
    yield byteString(new TextEncoder().encode(path));
    if (entry.isDirectory) yield* folderPaths(folder, path);
  }
}

async function* fileContent(path: string, sizeBytes: number): AsyncGenerator<Uint8Array> {
  using file = await Deno.open(path, { read: true });
  let remaining = sizeBytes;
  while (remaining > 0) {
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, remaining));
    const byteCount = await file.read(buffer);
    if (byteCount === null) {
      throw new LocalError("host", `Cannot pack "${path}": it changed while it was read`);
    }
    remaining -= byteCount;
    yield buffer.subarray(0, byteCount);
  }
  yield tarPadding(sizeBytes);
}

function times(info: Deno.FileInfo): { mode: number; mtime: number } {
  return { mode: (info.mode ?? 0o644) & 0o777, mtime: Math.floor((info.mtime?.getTime() ?? 0) / 1000) };
}

/** One member with its content. */
async function* packPath(root: string, name: string, onSkipped: OnSkipped): AsyncGenerator<Uint8Array> {
  const text = byteStringToText(name);
  if (text === undefined) return onSkipped(name, "name is not UTF-8");
  const path = join(root, text);
  let info: Deno.FileInfo;
  try {
    info = await Deno.lstat(path);
  } catch (error) {
    // Tracked but deleted in the work tree: that is how the user wants the workspace to be.
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  if (info.isSymlink) {
    const linkName = byteString(new TextEncoder().encode(await Deno.readLink(path)));
    yield tarHeader({ kind: "symlink", name, linkName, ...times(info), mode: 0o777, sizeBytes: 0 });
  } else if (info.isDirectory) {
    yield tarHeader({ kind: "directory", name: `${name}/`, ...times(info), sizeBytes: 0 });
  } else if (info.isFile) {
    yield tarHeader({ kind: "file", name, ...times(info), sizeBytes: info.size });
    yield* fileContent(path, info.size);
  } else onSkipped(text, "neither file, folder nor link");
}

async function* packSource(source: ArchiveSource): AsyncGenerator<Uint8Array> {
  const name = byteString(new TextEncoder().encode(source.name));
  if ("text" in source.from) {
    const content = new TextEncoder().encode(source.from.text);
    yield tarHeader({ kind: "file", name, mode: 0o644, mtime: 0, sizeBytes: content.length });
    yield content;
    yield tarPadding(content.length);
    return;
  }
  const info = await Deno.stat(source.from.path);
  yield tarHeader({ kind: "file", name, ...times(info), sizeBytes: info.size });
  yield* fileContent(source.from.path, info.size);
}

/** Yields the folders above a path that were not yielded before. */
function* newParents(path: string, seen: Set<string>): Generator<string> {
  for (let at = path.indexOf("/"); at !== -1; at = path.indexOf("/", at + 1)) {
    const parent = path.slice(0, at);
    if (seen.has(parent)) continue;
    seen.add(parent);
    yield parent;
  }
}

async function* packRepository(folder: string, onSkipped: OnSkipped): AsyncGenerator<Uint8Array> {
  const seen = new Set<string>();
  for await (const path of repositoryPaths(folder)) {
    for (const parent of newParents(path, seen)) yield* packPath(folder, parent, onSkipped);
    const info = await Deno.lstat(join(folder, byteStringToText(path) ?? path)).catch(() => undefined);
    if (info?.isDirectory === true) onSkipped(path, "repository inside the repository");
    else yield* packPath(folder, path, onSkipped);
  }
  if (!await isRepositoryRoot(folder)) return;
  const tempFolder = await Deno.makeTempDir({ prefix: "paddock-pack-" });
  try {
    for (const source of await gitFolderSources(folder, tempFolder)) {
      for (const parent of newParents(source.name, seen)) {
        yield tarHeader({ kind: "directory", name: `${parent}/`, mode: 0o755, mtime: 0, sizeBytes: 0 });
      }
      yield* packSource(source);
    }
    // Git takes a folder for a repository only if these exist, empty or not.
    for (const needed of [".git/refs", ".git/objects"].filter((path) => !seen.has(path))) {
      yield tarHeader({ kind: "directory", name: `${needed}/`, mode: 0o755, mtime: 0, sizeBytes: 0 });
    }
  } finally {
    await Deno.remove(tempFolder, { recursive: true });
  }
}

async function* packFolder(folder: string, onSkipped: OnSkipped): AsyncGenerator<Uint8Array> {
  for await (const path of folderPaths(folder)) yield* packPath(folder, path, onSkipped);
}

/** An archive of a folder's content, whatever git says of it; of repositories in it only the history. */
export async function* packTree(folder: string): AsyncGenerator<Uint8Array> {
  yield* packFolder(folder, () => {});
  yield tarEnd();
}

/** An archive of one file, under this name. */
export async function* packFile(path: string, name: string): AsyncGenerator<Uint8Array> {
  yield* packSource({ name, from: { path } });
  yield tarEnd();
}

/** The workspace archive of `folder`, as a stream. */
export async function* packWorkspace(folder: string, onSkipped: OnSkipped): AsyncGenerator<Uint8Array> {
  if (await isInsideRepository(folder)) yield* packRepository(folder, onSkipped);
  else yield* packFolder(folder, onSkipped);
  yield tarEnd();
}

/** Checks that `folder` can be packed, before anything expensive is done for it. */
export async function checkWorkspaceFolder(folder: string): Promise<void> {
  try {
    if ((await Deno.stat(folder)).isDirectory) return;
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
  }
  throw new LocalError("usage", `There is no folder "${folder}"`);
}
