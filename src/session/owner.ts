/**
 * Tells whether the process that owns something still lives: each owner holds the lock on a file of its own
 * for as long as it runs. The kernel drops the lock when the process dies, however it dies, so neither reused
 * pids nor reboots can mislead.
 *
 * @module
 */

import { join } from "node:path";

const OWNER_PATTERN = /^[0-9a-f-]{36}$/;

interface HeldLock {
  readonly id: string;
  readonly file: Deno.FsFile;
}

const held = new Map<string, HeldLock>();

function lockPath(stateDir: string, ownerId: string): string {
  return join(stateDir, "owners", ownerId);
}

/** The id of this process as an owner in a state folder; takes its lock the first time. */
export function ownId(stateDir: string): string {
  const known = held.get(stateDir);
  if (known !== undefined) return known.id;
  const id = crypto.randomUUID();
  Deno.mkdirSync(join(stateDir, "owners"), { recursive: true, mode: 0o700 });
  const draft = lockPath(stateDir, `new-${id}`);
  const file = Deno.openSync(draft, { write: true, createNew: true, mode: 0o600 });
  file.lockSync(true);
  // Only a locked file ever has an owner's name.
  Deno.renameSync(draft, lockPath(stateDir, id));
  held.set(stateDir, { id, file });
  return id;
}

/** Gives up this process's lock in a state folder. */
export function releaseOwn(stateDir: string): void {
  const own = held.get(stateDir);
  if (own === undefined) return;
  held.delete(stateDir);
  Deno.removeSync(lockPath(stateDir, own.id));
  own.file.close();
}

/** Whether the owner's process still runs. */
export function isAlive(stateDir: string, ownerId: string): boolean {
  if (!OWNER_PATTERN.test(ownerId)) return false;
  try {
    using file = Deno.openSync(lockPath(stateDir, ownerId), { write: true });
    return !file.tryLockSync(true);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Removes the files of owners that are gone; what they owned must have been removed before. */
export function sweepOwners(stateDir: string): void {
  for (const entry of Array.from(Deno.readDirSync(join(stateDir, "owners")))) {
    const isOwner = OWNER_PATTERN.test(entry.name);
    if (isOwner && !isAlive(stateDir, entry.name)) removeIfThere(lockPath(stateDir, entry.name));
  }
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    // Another server may be sweeping at the same time.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
