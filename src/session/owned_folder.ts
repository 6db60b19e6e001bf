/**
 * Folders that have the file which says whose they are from their first moment on: each is made under the name of a
 * draft, which itself names its maker, and then renamed.
 *
 * @module
 */

import { join } from "node:path";
import { removeAll } from "../images/build_once.ts";
import { isAlive } from "./owner.ts";

const DRAFT_PATTERN = /^new-([0-9a-f-]{36})-[a-z0-9]{4,24}$/;

/** Makes the folder `parent/id` with one file in it; gives its path. */
export async function makeOwnedFolder(options: {
  readonly parent: string;
  readonly id: string;
  /** id of this process as an owner */
  readonly owner: string;
  readonly fileName: string;
  readonly content: string;
}): Promise<string> {
  const { parent, id, owner, fileName, content } = options;
  const draft = join(parent, `new-${owner}-${id}`);
  await Deno.mkdir(draft, { recursive: true, mode: 0o700 });
  await Deno.writeTextFile(join(draft, fileName), content, { mode: 0o600 });
  const folder = join(parent, id);
  await Deno.rename(draft, folder);
  return folder;
}

/** Whether a name is that of a draft; one that a dead process left is removed. */
export async function sweepDraft(stateDir: string, parent: string, name: string): Promise<boolean> {
  const maker = DRAFT_PATTERN.exec(name)?.[1];
  if (maker === undefined) return false;
  if (!isAlive(stateDir, maker)) await removeAll(join(parent, name));
  return true;
}
