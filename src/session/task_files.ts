/**
 * A task's files: their names, and those that are made from what a guest gives at the end.
 *
 * @module
 */

import { join } from "node:path";
import { type Changes, collectChanges } from "./changes.ts";
import { fetchAgentCommits } from "./fetch_commits.ts";
import type { Session } from "./session.ts";
import type { TaskResult } from "./task.ts";
import { withoutControls } from "./text_tail.ts";
import { readFileChunks } from "./workspace_scan.ts";

/** uid and gid of the user `agent` in every image. */
const AGENT_UID = 1000;
const WORKSPACE_PATH = "/workspace";
const TRANSFER_LIMIT_MS = 15 * 60_000;
/** Largest workspace that is fetched from a guest, in bytes. */
const MAX_WORKSPACE_BYTES = 8 * 1024 ** 3;

/** Names of a task's files in its folder. */
export const TASK_FILES = {
  patch: "changes.patch",
  workspace: "workspace.tar",
  transcript: "transcript.jsonl",
  raw: "raw.jsonl",
  files: "files.tar",
  console: "console.log",
  patches: "patches.tar",
  commits: "commits.pack",
  network: "network.jsonl",
} as const;

/** Where a task's files are. */
export interface TaskPlaces {
  /** folder that they go to */
  readonly folder: string;
  /** archive of the workspace that went in (undefined: it was empty) */
  readonly workspaceTar: string | undefined;
}

/** Copies the archive of a workspace, if there is one, into the guest. */
export async function putWorkspace(session: Session, workspaceTar: string | undefined): Promise<void> {
  if (workspaceTar === undefined) return;
  const target = { path: WORKSPACE_PATH, uid: AGENT_UID, gid: AGENT_UID };
  await session.within(TRANSFER_LIMIT_MS, () => session.guest.put(readFileChunks(workspaceTar), target));
}

/** Does something with a folder in the session's own, which may be kept: nothing of this stays in it. */
async function withFolder<T>(session: Session, use: (folder: string) => Promise<T>): Promise<T> {
  const folder = join(session.folder, "results");
  await Deno.mkdir(folder);
  try {
    return await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Fetches the workspace and writes what changed in it. */
export async function fetchChanges(session: Session, places: TaskPlaces): Promise<Changes> {
  const { folder, workspaceTar } = places;
  return await withFolder(session, async (results) => {
    const afterTar = join(results, "after.tar");
    await session.within(TRANSFER_LIMIT_MS, async () => {
      using file = await Deno.open(afterTar, { write: true, createNew: true, mode: 0o600 });
      for await (const chunk of session.guest.get(WORKSPACE_PATH, MAX_WORKSPACE_BYTES)) {
        for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
      }
    });
    const tempFolder = join(results, "compare");
    await Deno.mkdir(tempFolder);
    return await collectChanges({
      beforeTar: workspaceTar,
      afterTar,
      tempFolder,
      patchPath: join(folder, TASK_FILES.patch),
      workspaceTarPath: join(folder, TASK_FILES.workspace),
      filesTarPath: join(folder, TASK_FILES.files),
    });
  });
}

/** Fetches what the agent committed. What is wrong with it costs only the commits: the changes are there already. */
export async function fetchCommits(
  session: Session,
  { folder, workspaceTar }: TaskPlaces,
): Promise<TaskResult["commits"]> {
  if (workspaceTar === undefined) return null;
  try {
    return await withFolder(session, (results) =>
      fetchAgentCommits(session, {
        beforeTar: workspaceTar,
        folder: results,
        packPath: join(folder, TASK_FILES.commits),
        patchesTarPath: join(folder, TASK_FILES.patches),
      }));
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

/** Writes the end of what the guest's kernel said. */
export async function saveConsole(session: Session, { folder }: Pick<TaskPlaces, "folder">): Promise<void> {
  const path = join(folder, TASK_FILES.console);
  await Deno.writeTextFile(path, withoutControls(session.consoleText), { mode: 0o600 });
}
