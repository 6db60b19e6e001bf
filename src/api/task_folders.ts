/**
 * The folders of tasks: each has what its task left.
 *
 * @module
 */

import { join } from "node:path";
import { removeAll } from "../session/kept_sessions.ts";

/** The folders of one state folder. */
export class TaskFolders {
  readonly #folder: string;

  constructor(stateDir: string) {
    this.#folder = join(stateDir, "tasks");
  }

  /** A task's folder. */
  path(id: string): string {
    return join(this.#folder, id);
  }

  /** Makes a task's folder, without anything that an earlier try may have left. */
  async renew(id: string): Promise<string> {
    await this.remove(id);
    await Deno.mkdir(this.path(id), { recursive: true, mode: 0o700 });
    return this.path(id);
  }

  /** Removes a task's folder, if there is one. */
  async remove(id: string): Promise<void> {
    await removeAll(this.path(id));
  }

  /** Removes folders of tasks that nobody knows. */
  async sweep(isKnown: (id: string) => boolean): Promise<void> {
    for (const { name } of Array.from(Deno.readDirSync(this.#folder))) {
      if (!isKnown(name)) await this.remove(name);
    }
  }
}
