/**
 * Where the background server of this machine is: it writes this down when it listens, and is there for as long as it
 * holds its lock as an owner.
 *
 * @module
 */

import { join } from "node:path";
import { stateDir } from "../images/paths.ts";
import { isAlive, ownId } from "../session/owner.ts";

/** The server's address and the token that its requests carry. */
export interface BackgroundRecord {
  readonly url: string;
  readonly token: string;
  readonly owner: string;
  readonly pid: number;
}

function recordPath(): string {
  return join(stateDir(), "server.json");
}

/** Writes down where this process serves. */
export async function writeBackgroundRecord(
  place: { readonly url: string; readonly token: string },
): Promise<void> {
  const record: BackgroundRecord = { ...place, owner: ownId(stateDir()), pid: Deno.pid };
  const draft = `${recordPath()}.new`;
  await Deno.writeTextFile(draft, JSON.stringify(record), { mode: 0o600 });
  await Deno.rename(draft, recordPath());
}

/** Removes what this process wrote. */
export async function removeBackgroundRecord(): Promise<void> {
  await Deno.remove(recordPath()).catch(() => {/* somebody removed it by hand */});
}

/** Where the background server is (undefined: there is none). */
export async function findBackgroundServer(): Promise<BackgroundRecord | undefined> {
  try {
    const record = JSON.parse(await Deno.readTextFile(recordPath())) as BackgroundRecord;
    return isAlive(stateDir(), record.owner) ? record : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}
