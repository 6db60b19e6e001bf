/**
 * Archives that were uploaded: they wait for their task, and stay until it is over. Each is noted in the store before
 * its file is made.
 *
 * @module
 */

import { join } from "node:path";
import { removeAll } from "../session/kept_sessions.ts";
import { isAlive, ownId } from "../session/owner.ts";
import { newSessionId } from "../session/record.ts";
import { SessionError } from "../session/session_error.ts";
import type { UploadRow, UploadStore } from "../store/upload_store.ts";

/** Largest archive that is taken, in bytes. */
const MAX_UPLOAD_BYTES = 8 * 1024 ** 3;
/** How long an upload waits for its task, in `ms`. */
const UPLOAD_LIFETIME_MS = 60 * 60_000;

/** The folder of uploads. */
export class UploadFolder {
  readonly #stateDir: string;
  readonly #folder: string;
  readonly #store: UploadStore;

  /** Keeps archives in a state folder and their rows in `store`. */
  constructor(stateDir: string, store: UploadStore) {
    this.#stateDir = stateDir;
    this.#folder = join(stateDir, "uploads");
    this.#store = store;
  }

  /** Stores an archive of a token's. */
  async add(
    tokenId: string,
    content: AsyncIterable<Uint8Array> | null,
  ): Promise<{ id: string; sizeBytes: number }> {
    const id = newSessionId();
    this.#store.add({ id, owner: ownId(this.#stateDir), tokenId });
    try {
      await Deno.mkdir(this.#folder, { recursive: true, mode: 0o700 });
      return { id, sizeBytes: await this.#write(id, content) };
    } catch (error) {
      await this.remove(id);
      throw error;
    }
  }

  /** An upload of a token's that waits for its task. @throws {SessionError} */
  waiting(id: string, tokenId: string): UploadRow {
    const row = this.#store.get(id);
    if (row !== undefined && row.taskId === null && row.tokenId === tokenId) return row;
    throw new SessionError("not_found", `There is no upload "${id}"`);
  }

  /** Moves an archive of a token's to where its session wants it. @throws {SessionError} */
  async take(id: string, tokenId: string, path: string): Promise<void> {
    this.waiting(id, tokenId);
    await Deno.rename(this.#path(id), path);
    this.#store.remove(id);
  }

  /** Path of the archive that is a task's workspace (undefined: it has none). */
  pathOf(taskId: string): string | undefined {
    const row = this.#store.ofTask(taskId);
    return row === undefined ? undefined : this.#path(row.id);
  }

  /** Removes the archive of a task that is over. */
  async release(taskId: string): Promise<void> {
    const row = this.#store.ofTask(taskId);
    if (row !== undefined) await this.remove(row.id);
  }

  /** Removes uploads of dead servers and those that nobody came for; `isWanted`: the task is not over. */
  async sweep(isWanted: (taskId: string) => boolean): Promise<void> {
    for (const row of this.#store.all()) {
      const isOld = Date.now() - Date.parse(row.createdAt) > UPLOAD_LIFETIME_MS;
      const isIdle = row.taskId === null && (isOld || !isAlive(this.#stateDir, row.owner));
      if (isIdle || (row.taskId !== null && !isWanted(row.taskId))) await this.remove(row.id);
    }
  }

  /** Removes all uploads of this server that wait for a task. */
  async removeOwn(): Promise<void> {
    const own = ownId(this.#stateDir);
    for (const row of this.#store.all()) {
      if (row.owner === own && row.taskId === null) await this.remove(row.id);
    }
  }

  /** Removes an upload. */
  async remove(id: string): Promise<void> {
    await removeAll(this.#path(id));
    this.#store.remove(id);
  }

  async #write(id: string, content: AsyncIterable<Uint8Array> | null): Promise<number> {
    using file = await Deno.open(this.#path(id), { write: true, createNew: true, mode: 0o600 });
    let byteCount = 0;
    for await (const chunk of content ?? []) {
      byteCount += chunk.length;
      if (byteCount > MAX_UPLOAD_BYTES) {
        throw new SessionError("too_large", `Upload is over ${MAX_UPLOAD_BYTES} bytes`);
      }
      for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
    }
    return byteCount;
  }

  #path(id: string): string {
    return join(this.#folder, `${id}.tar`);
  }
}
