/**
 * Reads a workspace archive and says what is in it, path by path, with a hash of each content. Members that
 * would leave the folder, or that hide behind a symlink of the same archive, are left out and counted.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { readTar, safePath, type TarEntry } from "./tar_reader.ts";

/** Most members of a workspace: without a limit a guest could fill the host's memory with names. */
const MAX_MEMBER_COUNT = 2_000_000;

/** What a path of the workspace is; two equal values mean an unchanged path. */
export interface WorkspacePath {
  /** git's file mode */
  readonly gitMode: "100644" | "100755" | "120000";
  /** hash of the content or of the link target */
  readonly hash: string;
  /** path whose archive member holds the content (another one for hard links) */
  readonly contentPath: string;
}

/** A scanned workspace: byte-string paths without any `.git` component. */
export interface WorkspaceScan {
  readonly paths: ReadonlyMap<string, WorkspacePath>;
  /** members that were left out */
  readonly refusedCount: number;
}

/** The workspace archive is beyond what the host takes. */
export class WorkspaceError extends Error {
  override readonly name = "WorkspaceError";
}

/** A member that passed the checks, with its clean path. */
export interface CheckedEntry {
  readonly path: string;
  readonly entry: TarEntry;
}

/** Chunks of a file. */
export async function* readFileChunks(path: string): AsyncGenerator<Uint8Array> {
  using file = await Deno.open(path, { read: true });
  const buffer = new Uint8Array(256 * 1024);
  for (;;) {
    const byteCount = await file.read(buffer);
    if (byteCount === null) return;
    yield buffer.slice(0, byteCount);
  }
}

/** Whether a path lies in a repository's own folder. */
export function isGitInternal(path: string): boolean {
  return path.split("/").some((part) => part.toLowerCase() === ".git");
}

/** Members of an archive whose names are safe and that no symlink of the archive redirects. */
export async function* checkedEntries(
  tar: AsyncIterable<Uint8Array>,
  onRefused: () => void,
): AsyncGenerator<CheckedEntry> {
  const symlinks = new Set<string>();
  let count = 0;
  for await (const entry of readTar(tar)) {
    count += 1;
    if (count > MAX_MEMBER_COUNT) throw new WorkspaceError(`Workspace has over ${MAX_MEMBER_COUNT} files`);
    const path = safePath(entry.name);
    if (path === undefined || entry.kind === "other" || isBehind(path, symlinks)) {
      onRefused();
      continue;
    }
    if (entry.kind === "symlink") symlinks.add(path);
    else symlinks.delete(path);
    yield { path, entry };
  }
}

function isBehind(path: string, symlinks: ReadonlySet<string>): boolean {
  if (symlinks.size === 0) return false;
  for (let at = path.indexOf("/"); at !== -1; at = path.indexOf("/", at + 1)) {
    if (symlinks.has(path.slice(0, at))) return true;
  }
  return false;
}

/** Scans an archive; `onEntry` may consume the content of a member, chunk by chunk, as it passes. */
export async function scanWorkspace(
  tar: AsyncIterable<Uint8Array>,
  onEntry?: (checked: CheckedEntry, content: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<WorkspaceScan> {
  const paths = new Map<string, WorkspacePath>();
  let refusedCount = 0;
  for await (const checked of checkedEntries(tar, () => refusedCount += 1)) {
    const { path, entry } = checked;
    const hash = createHash("sha256");
    const content = hashed(entry.content, hash);
    await onEntry?.(checked, content);
    for await (const _ of content) { /* hash what was not consumed */ }
    if (path === "" || isGitInternal(path)) continue;
    if (entry.kind === "file") {
      const gitMode = (entry.mode & 0o100) === 0 ? "100644" : "100755";
      paths.set(path, { gitMode, hash: hash.digest("hex"), contentPath: path });
    } else if (entry.kind === "symlink") {
      const target = hash.update(entry.linkName, "latin1").digest("hex");
      paths.set(path, { gitMode: "120000", hash: target, contentPath: path });
    } else if (entry.kind === "hardlink") {
      const target = paths.get(safePath(entry.linkName) ?? "");
      if (target === undefined) refusedCount += 1;
      else paths.set(path, target);
    }
  }
  return { paths, refusedCount };
}

async function* hashed(
  content: AsyncIterable<Uint8Array>,
  hash: ReturnType<typeof createHash>,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of content) {
    hash.update(chunk);
    yield chunk;
  }
}
