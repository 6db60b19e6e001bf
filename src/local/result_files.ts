/**
 * The files that a task leaves to its user: in a folder, and in one archive if that is wanted.
 *
 * @module
 */

import { dirname, join } from "node:path";
import type { ApiClient, TaskFileKind } from "../api/client.ts";
import { removeAll } from "../images/build_once.ts";
import type { TaskResult } from "../session/task.ts";
import { LocalError } from "./local_error.ts";
import { type ArchivedLink, unpackFiles } from "./unpack_files.ts";
import { writeBundle } from "./write_bundle.ts";

/** Names of the files that come from the server as they are. */
const NAMES: readonly (readonly [TaskFileKind, string])[] = [
  ["patch", "changes.patch"],
  ["transcript", "transcript.jsonl"],
  ["raw", "raw.jsonl"],
  ["network", "network.jsonl"],
  ["console", "console.log"],
];
/** Folders whose content comes as an archive: the added and changed files, and a patch for each of the agent's commits. */
const FOLDERS = ["files", "patches"] as const;

/** Where the results go. */
export interface ResultPlaces {
  /** folder (undefined: one with the task's id, or none where there is an archive) */
  readonly out?: string | undefined;
  /** archive (undefined: none) */
  readonly bundle?: string | undefined;
}

async function kindOf(path: string): Promise<"file" | "folder" | undefined> {
  const info = await Deno.stat(path).catch(() => undefined);
  return info === undefined ? undefined : info.isDirectory ? "folder" : "file";
}

/** Whether a folder holds the results of an earlier task, which new ones may replace. */
async function holdsResults(folder: string): Promise<boolean> {
  try {
    const document: unknown = JSON.parse(await Deno.readTextFile(join(folder, "result.json")));
    return typeof document === "object" && document !== null && "outcome" in document && "agent" in document;
  } catch {
    return false; // no such file, or somebody else's
  }
}

/** Finds out before the work that the results will have no place to go. @throws {LocalError} */
export async function checkResultPlaces({ out, bundle }: ResultPlaces): Promise<void> {
  if (out !== undefined) {
    if (await kindOf(out) === "file") throw new LocalError("usage", `--out "${out}" is not a folder`);
    for (const name of FOLDERS) {
      if (await kindOf(join(out, name)) === undefined || await holdsResults(out)) continue;
      throw new LocalError("usage", `--out "${out}" holds a "${name}" of its own: name a new folder`);
    }
  }
  if (bundle === undefined) return;
  if (await kindOf(bundle) !== undefined) {
    throw new LocalError("usage", `--bundle "${bundle}" exists already: name a new file`);
  }
  if (await kindOf(dirname(bundle)) !== "folder") {
    throw new LocalError("usage", `--bundle "${bundle}": there is no folder "${dirname(bundle)}"`);
  }
}

async function fetchFiles(
  client: ApiClient,
  kind: typeof FOLDERS[number],
  options: { readonly id: string; readonly folder: string },
): Promise<ArchivedLink[]> {
  const target = join(options.folder, kind);
  await removeAll(target);
  const archive = join(options.folder, `.${kind}.tar`);
  try {
    if (!await client.download(options.id, kind, archive)) return [];
    return await unpackFiles(archive, target);
  } finally {
    await removeAll(archive);
  }
}

/** Fetches a task's files and writes them where they are to go. */
export async function writeResults(
  client: ApiClient,
  options: ResultPlaces & {
    readonly id: string;
    readonly document: TaskResult;
  },
): Promise<{ readonly outFolder: string }> {
  const { id, document, bundle } = options;
  const isTemporary = bundle !== undefined && options.out === undefined;
  const temporary = join(dirname(bundle ?? "."), `.paddock-result-${id}`);
  const folder = isTemporary ? temporary : options.out ?? `paddock-result-${id}`;
  await Deno.mkdir(folder, { recursive: true });
  try {
    await removeAll(join(folder, "result.json"));
    const links = await fetchFiles(client, "files", { id, folder });
    await fetchFiles(client, "patches", { id, folder });
    for (const [kind, name] of NAMES) await client.download(id, kind, join(folder, name));
    // The largest last: the server keeps a task for some time after it was asked for something of it.
    if (!isTemporary) await client.download(id, "workspace", join(folder, "workspace.tar"));
    // Where this stands, all the others are there and whole
    const draft = join(folder, ".result.json");
    await Deno.writeTextFile(draft, `${JSON.stringify(document, null, 2)}\n`);
    await Deno.rename(draft, join(folder, "result.json"));
    if (bundle !== undefined) {
      const order = [
        "result.json",
        "changes.patch",
        "patches",
        "files",
        ...NAMES.slice(1).map(([, name]) => name),
      ];
      await writeBundle(bundle, { folder, order, links: new Map([["files", links]]) });
    }
    return { outFolder: isTemporary ? "" : folder };
  } finally {
    if (isTemporary) await removeAll(temporary);
  }
}
