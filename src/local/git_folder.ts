/**
 * Which parts of a repository's `.git` go into a guest: its history and its index, nothing that holds a
 * credential, names another machine or makes git run a program.
 *
 * @module
 */

import { join } from "node:path";
import { runHostCommand } from "../network/host_command.ts";
import { byteString, byteStringToText } from "../session/tar_reader.ts";
import { LocalError } from "./local_error.ts";

/** A file to put into an archive: from disk, or given. */
export interface ArchiveSource {
  /** path in the archive */
  readonly name: string;
  /** file on disk, or content */
  readonly from: { readonly path: string } | { readonly text: string };
}

const SINGLE_FILES = /^(HEAD|ORIG_HEAD|index|sharedindex\.[0-9a-f]+)$/;
const COMMON_FILES = ["packed-refs", "shallow"] as const;
const COMMON_FOLDERS = ["objects", "refs", "reftable"] as const;

/** Runs git in the user's own repository, whoever owns its files; no program of its configuration is started. */
export async function runGit(folder: string, args: readonly string[]): Promise<string> {
  const options = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false"];
  const env = { HOME: Deno.env.get("HOME") ?? "/", GIT_OPTIONAL_LOCKS: "0" };
  return byteString(
    await runHostCommand(["git", "-C", folder, ...options, ...args], { env, okCodes: [0, 1] }),
  );
}

/** The minimal configuration: the format of the repository, as git needs it to read the rest. */
async function minimalConfig(folder: string): Promise<string> {
  const version = (await runGit(folder, ["config", "--get", "core.repositoryformatversion"])).trim() || "0";
  let text = `[core]\n\trepositoryformatversion = ${
    Number(version) || 0
  }\n\tfilemode = true\n\tbare = false\n`;
  const extensions = await runGit(folder, ["config", "--get-regexp", "^extensions\\."]);
  for (const line of extensions.split("\n")) {
    const match = /^extensions\.(objectformat|refstorage|partialclone|noop) ([A-Za-z0-9._-]+)$/.exec(line);
    if (match !== null) text += `[extensions]\n\t${match[1]} = ${match[2]}\n`;
  }
  return text;
}

async function* filesBelow(folder: string, prefix: string): AsyncGenerator<ArchiveSource> {
  let entries: Deno.DirEntry[];
  try {
    entries = await Array.fromAsync(Deno.readDir(folder));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) yield* filesBelow(path, `${prefix}/${entry.name}`);
    else if (entry.isFile && !entry.name.endsWith(".lock")) {
      yield { name: `${prefix}/${entry.name}`, from: { path } };
    }
  }
}

async function hasAlternates(commonDir: string): Promise<boolean> {
  try {
    return (await Deno.readTextFile(join(commonDir, "objects/info/alternates"))).trim() !== "";
  } catch {
    // No such file: the repository has all of its objects.
    return false;
  }
}

/** The objects of a repository that borrows some from another, as one pack in a temporary folder. */
async function packBorrowed(folder: string, tempFolder: string): Promise<void> {
  const prefix = join(tempFolder, "pack");
  await runGit(folder, ["pack-objects", "--quiet", "--revs", "--all", "--indexed-objects", prefix]);
}

async function absoluteDir(folder: string, option: string): Promise<string> {
  const printed = await runGit(folder, ["rev-parse", "--path-format=absolute", option]);
  const path = byteStringToText(printed)?.replace(/\n$/, "");
  if (path === undefined) throw new LocalError("usage", `Cannot pack "${folder}": its path is not UTF-8`);
  return path;
}

/** The sanitised `.git` of the repository at `folder`, as sources of an archive. */
export async function gitFolderSources(folder: string, tempFolder: string): Promise<ArchiveSource[]> {
  const gitDir = await absoluteDir(folder, "--git-dir");
  const commonDir = await absoluteDir(folder, "--git-common-dir");
  const sources: ArchiveSource[] = [{ name: ".git/config", from: { text: await minimalConfig(folder) } }];
  for await (const entry of Deno.readDir(gitDir)) {
    if (!entry.isFile || !SINGLE_FILES.test(entry.name)) continue;
    sources.push({ name: `.git/${entry.name}`, from: { path: join(gitDir, entry.name) } });
  }
  for await (const entry of Deno.readDir(commonDir)) {
    if (!entry.isFile || !COMMON_FILES.some((name) => name === entry.name)) continue;
    sources.push({ name: `.git/${entry.name}`, from: { path: join(commonDir, entry.name) } });
  }
  const borrows = await hasAlternates(commonDir);
  if (borrows) {
    await packBorrowed(folder, tempFolder);
    sources.push(...await Array.fromAsync(filesBelow(tempFolder, ".git/objects/pack")));
  }
  for (const name of COMMON_FOLDERS) {
    if (borrows && name === "objects") continue;
    for await (const source of filesBelow(join(commonDir, name), `.git/${name}`)) {
      if (!source.name.startsWith(".git/objects/info/")) sources.push(source);
    }
  }
  return sources;
}
