/**
 * What a session holds on the host, written down before it is made, so that a crash at any point can be
 * cleaned up from the record alone. Everything has a name that follows from the session's id: the folder
 * (overlay, sockets, temporary files), and the network namespace, which holds the session's TAP device, its
 * packet filter and all of its processes.
 *
 * @module
 */

import { join } from "node:path";
import { removeAll } from "../images/build_once.ts";
import { namespaceName, removeNetwork } from "../network/session_network.ts";
import { makeOwnedFolder, sweepDraft } from "./owned_folder.ts";
import { isAlive, ownId } from "./owner.ts";

const RECORD_NAME = "record.json";
const ID_PATTERN = /^[a-z0-9]{4,24}$/;

/** A session's record. */
export interface SessionRecord {
  readonly version: 1;
  readonly id: string;
  /** process that runs the session */
  readonly owner: string;
  readonly namespace: string;
  readonly createdAt: string;
}

/** A fresh id: short, because socket paths have little room. */
export function newSessionId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(10));
  return Array.from(bytes, (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte % 32]).join("");
}

/** Whether this can be a session's id: what is not must never become part of a path. */
export function isSessionId(text: string): boolean {
  return ID_PATTERN.test(text);
}

/** The folder of all sessions. */
export function sessionsFolder(stateDir: string): string {
  return join(stateDir, "sessions");
}

/** Makes a session's folder and its record; nothing else of the session exists before this. */
export async function writeRecord(
  stateDir: string,
  id: string,
): Promise<{ folder: string; record: SessionRecord }> {
  const owner = ownId(stateDir);
  const record: SessionRecord = {
    version: 1,
    id,
    owner,
    namespace: namespaceName(id),
    createdAt: new Date().toISOString(),
  };
  const content = JSON.stringify(record);
  const parent = sessionsFolder(stateDir);
  const folder = await makeOwnedFolder({ parent, id, owner, fileName: RECORD_NAME, content });
  return { folder, record };
}

/** Removes all that a session holds: processes, namespace, then the folder with the record last. */
export async function removeRecorded(stateDir: string, id: string): Promise<void> {
  await removeNetwork(namespaceName(id));
  const folder = join(sessionsFolder(stateDir), id);
  for await (const entry of readFolder(folder)) {
    if (entry.name !== RECORD_NAME) await removeAll(join(folder, entry.name));
  }
  await removeAll(folder);
}

async function* readFolder(path: string): AsyncGenerator<Deno.DirEntry> {
  try {
    yield* Deno.readDir(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function isStale(stateDir: string, id: string): Promise<boolean> {
  try {
    const path = join(sessionsFolder(stateDir), id, RECORD_NAME);
    const record = JSON.parse(await Deno.readTextFile(path)) as SessionRecord;
    return !isAlive(stateDir, record.owner);
  } catch (error) {
    // Without its record, which goes last, it is a session that was nearly removed
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return true;
    throw error;
  }
}

/** Removes what sessions of dead processes left behind, and gives their ids. */
export async function sweepStale(stateDir: string): Promise<string[]> {
  const swept: string[] = [];
  for await (const entry of readFolder(sessionsFolder(stateDir))) {
    if (await sweepDraft(stateDir, sessionsFolder(stateDir), entry.name)) continue;
    if (!entry.isDirectory || !isSessionId(entry.name)) continue;
    if (!await isStale(stateDir, entry.name)) continue;
    await removeRecorded(stateDir, entry.name);
    swept.push(entry.name);
  }
  return swept;
}
