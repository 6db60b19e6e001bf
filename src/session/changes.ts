/**
 * What an agent changed: compares the workspace that went into the guest with the one that came out, and
 * writes `changes.patch` and a checked `workspace.tar`.
 *
 * @module
 */

import { dirname, join } from "node:path";
import {
  blobHeader,
  type ChangedPath,
  commitCommands,
  GitHistory,
  type VersionedFile,
} from "./git_history.ts";
import { writeChangedFiles } from "./changed_files.ts";
import { byteStringToText, stringBytes } from "./tar_reader.ts";
import { TarFileWriter } from "./tar_writer.ts";
import {
  checkedEntries,
  type CheckedEntry,
  isGitInternal,
  readFileChunks,
  scanWorkspace,
  type WorkspacePath,
  type WorkspaceScan,
} from "./workspace_scan.ts";

/** Largest ignore file that is honoured, in bytes. */
const MAX_IGNORE_BYTES = 1024 * 1024;

/** Parts of a repository's folder that are data; the rest can make git run commands. */
const GIT_DATA = /^(HEAD|ORIG_HEAD|packed-refs|index|shallow|(objects|refs|logs)(\/.*)?)$/;
const GIT_ALTERNATES = /^objects\/info\//;

/** Where the archives are and where results go. */
export interface ChangesOptions {
  /** archive that went into the guest (undefined: an empty workspace) */
  readonly beforeTar: string | undefined;
  /** archive that came out of the guest */
  readonly afterTar: string;
  /** folder for temporary files, which its owner removes */
  readonly tempFolder: string;
  /** file to make */
  readonly patchPath: string;
  /** file to make */
  readonly workspaceTarPath: string;
  /** file to make: an archive of the added and changed files only */
  readonly filesTarPath: string;
}

/** What changed. */
export interface Changes {
  readonly paths: readonly ChangedPath[];
  /** new files that ignore rules keep out of the patch */
  readonly ignoredCount: number;
  /** members of the guest's archive that were unsafe and left out */
  readonly refusedCount: number;
}

/**
 * Whether a member may be in the archive that the user gets: of a repository's folder only the data, so that
 * running git in the unpacked workspace runs nothing that the guest wrote.
 */
export function isSafeToHandOut(path: string, kind: CheckedEntry["entry"]["kind"]): boolean {
  const parts = path.split("/");
  const at = parts.findIndex((part) => part.toLowerCase() === ".git");
  if (at === -1) return true;
  const below = parts.slice(at + 1).join("/");
  if (below === "") return kind === "directory" && parts[at] === ".git";
  if (kind === "symlink" || kind === "hardlink" || isGitInternal(below)) return false;
  return GIT_DATA.test(below) && !GIT_ALTERNATES.test(below);
}

async function passOn(
  writer: TarFileWriter,
  checked: CheckedEntry,
  content: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { path, entry } = checked;
  if (path === "" || entry.kind === "other" || !isSafeToHandOut(path, entry.kind)) return;
  await writer.add({
    kind: entry.kind,
    name: entry.kind === "directory" ? `${path}/` : path,
    linkName: entry.linkName,
    mode: entry.mode & 0o777,
    mtime: entry.mtime,
    sizeBytes: entry.sizeBytes,
  }, content);
}

/** Keeps a copy of an ignore file, so that git can read it from a folder that holds nothing else. */
async function keepIgnoreFile(folder: string, path: string, content: Uint8Array): Promise<void> {
  const name = byteStringToText(path);
  if (name === undefined) return;
  try {
    const target = join(folder, name);
    await Deno.mkdir(dirname(target), { recursive: true });
    await Deno.writeFile(target, content);
  } catch (error) {
    // A name too long for this file system only costs its ignore rules.
    if (!(error instanceof Error)) throw error;
  }
}

async function collect(content: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  for await (const chunk of content) chunks.push(Uint8Array.from(chunk));
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

async function* single(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(bytes);
}

/** Scans the guest's archive, copying what is safe into `workspace.tar` and ignore files into a folder. */
async function scanAfter(options: ChangesOptions, ignoreFolder: string): Promise<WorkspaceScan> {
  using writer = await TarFileWriter.create(options.workspaceTarPath);
  const scan = await scanWorkspace(readFileChunks(options.afterTar), async (checked, content) => {
    const { path, entry } = checked;
    const isIgnoreFile = entry.kind === "file" && /(^|\/)\.gitignore$/.test(path) && !isGitInternal(path);
    if (!isIgnoreFile || entry.sizeBytes > MAX_IGNORE_BYTES) return await passOn(writer, checked, content);
    const bytes = await collect(content);
    await keepIgnoreFile(ignoreFolder, path, bytes);
    await passOn(writer, checked, single(bytes));
  });
  await writer.finish();
  return scan;
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** The paths that differ between two scans, in byte order. */
export function comparePaths(before: WorkspaceScan, after: WorkspaceScan): ChangedPath[] {
  const changed: ChangedPath[] = [];
  for (const [path, now] of after.paths) {
    const was = before.paths.get(path);
    if (was === undefined) changed.push({ path, kind: "added" });
    else if (was.hash !== now.hash || was.gitMode !== now.gitMode) changed.push({ path, kind: "modified" });
  }
  for (const path of before.paths.keys()) {
    if (!after.paths.has(path)) changed.push({ path, kind: "deleted" });
  }
  return changed.sort((a, b) => a.path < b.path ? -1 : 1);
}

/** Sends the wanted contents of one archive as blobs and gives the files with their marks. */
async function sendBlobs(
  tar: AsyncIterable<Uint8Array>,
  options: {
    readonly wanted: ReadonlyMap<string, WorkspacePath>;
    readonly firstMark: number;
    readonly send: (bytes: Uint8Array) => Promise<void>;
  },
): Promise<VersionedFile[]> {
  const { wanted, send } = options;
  const contentPaths = new Set(Array.from(wanted.values(), (entry) => entry.contentPath));
  const marks = new Map<string, number>();
  let mark = options.firstMark;
  for await (const { path, entry } of checkedEntries(tar, () => {})) {
    if (!contentPaths.has(path) || (entry.kind !== "file" && entry.kind !== "symlink")) continue;
    const isLink = entry.kind === "symlink";
    await send(blobHeader(mark, isLink ? entry.linkName.length : entry.sizeBytes));
    if (isLink) await send(stringBytes(entry.linkName));
    else for await (const chunk of entry.content) await send(chunk);
    await send(stringBytes("\n"));
    marks.set(path, mark);
    mark += 1;
  }
  return Array.from(wanted).flatMap(([path, { gitMode, contentPath }]) => {
    const found = marks.get(contentPath);
    return found === undefined ? [] : [{ path, gitMode, mark: found }];
  });
}

function pick(scan: WorkspaceScan, changed: readonly ChangedPath[]): Map<string, WorkspacePath> {
  return new Map(changed.flatMap(({ path }) => {
    const entry = scan.paths.get(path);
    return entry === undefined ? [] : [[path, entry] as const];
  }));
}

/** Compares two workspaces; see {@linkcode ChangesOptions} for what it writes. */
export async function collectChanges(options: ChangesOptions): Promise<Changes> {
  const open = (path: string | undefined): AsyncIterable<Uint8Array> =>
    path === undefined ? nothing() : readFileChunks(path);
  const ignoreFolder = join(options.tempFolder, "ignore");
  await Deno.mkdir(ignoreFolder);
  const before = await scanWorkspace(open(options.beforeTar));
  const after = await scanAfter(options, ignoreFolder);
  const all = comparePaths(before, after);
  if (all.length === 0) {
    await Deno.writeFile(options.patchPath, new Uint8Array(), { mode: 0o600 });
    await writeChangedFiles(nothing(), new Map(), options.filesTarPath);
    return { paths: [], ignoredCount: 0, refusedCount: after.refusedCount };
  }

  const history = await GitHistory.create(options.tempFolder);
  const added = all.filter((change) => change.kind === "added").map((change) => change.path);
  const ignored = await history.ignored(ignoreFolder, added);
  const changed = all.filter((change) => change.kind !== "added" || !ignored.has(change.path));
  await history.import(async (send) => {
    const from = { send, firstMark: 1, wanted: pick(before, changed) };
    const old = await sendBlobs(open(options.beforeTar), from);
    const to = { send, firstMark: 1 + before.paths.size + 1, wanted: pick(after, changed) };
    const now = await sendBlobs(open(options.afterTar), to);
    await send(commitCommands("before", old));
    await send(commitCommands("after", now));
  });
  await history.writePatch(options.patchPath);
  await writeChangedFiles(open(options.afterTar), pick(after, changed), options.filesTarPath);
  const paths = changed.map(({ path, kind }) => ({ path: byteStringToText(path) ?? path, kind }));
  return { paths, ignoredCount: ignored.size, refusedCount: after.refusedCount };
}
