/**
 * Archives that were uploaded and wait for their task. Each is noted in the store before its file is made.
 *
 * @module
 */

import { join } from "node:path";
import { isAlive, ownId } from "../session/owner.ts";
import { newSessionId } from "../session/record.ts";
import { SessionError } from "../session/session_error.ts";
import type { TaskStore } from "../store/task_store.ts";

/** Largest archive that is taken, in bytes. */
const MAX_UPLOAD_BYTES = 8 * 1024 ** 3;
/** How long an upload waits for its task, in `ms`. */
const UPLOAD_LIFETIME_MS = 60 * 60_000;

/** The folder of uploads. */
export class UploadFolder {
  readonly #stateDir: string;
  readonly #folder: string;
  readonly #store: TaskStore;

  /** Keeps archives in a state folder and their rows in `store`. */
  constructor(stateDir: string, store: TaskStore) {
    this.#stateDir = stateDir;
    this.#folder = join(stateDir, "uploads");
    this.#store = store;
  }

  /** Stores an archive. */
  async add(content: ReadableStream<Uint8Array> | null): Promise<{ id: string; sizeBytes: number }> {
    const id = newSessionId();
    this.#store.addUpload(id, ownId(this.#stateDir));
    try {
      await Deno.mkdir(this.#folder, { recursive: true, mode: 0o700 });
      return { id, sizeBytes: await this.#write(id, content) };
    } catch (error) {
      await this.#remove(id);
      throw error;
    }
  }

  /** Moves an archive to where its task wants it. */
  async take(id: string, target: string): Promise<void> {
    try {
      await Deno.rename(this.#path(id), target);
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
      throw new SessionError("not_found", `There is no upload "${id}"`, { cause });
    }
    this.#store.removeUpload(id);
  }

  /** Removes uploads of dead servers and those that nobody came for. */
  async sweep(): Promise<void> {
    for (const row of this.#store.uploads()) {
      const isOld = Date.now() - Date.parse(row.createdAt) > UPLOAD_LIFETIME_MS;
      if (isOld || !isAlive(this.#stateDir, row.owner)) await this.#remove(row.id);
    }
  }

  /** Removes all uploads of this server. */
  async removeOwn(): Promise<void> {
    const own = ownId(this.#stateDir);
    for (const row of this.#store.uploads()) {
      if (row.owner === own) await this.#remove(row.id);
    }
  }

  async #write(id: string, content: ReadableStream<Uint8Array> | null): Promise<number> {
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

  async #remove(id: string): Promise<void> {
    await Deno.remove(this.#path(id)).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    this.#store.removeUpload(id);
  }

  #path(id: string): string {
    return join(this.#folder, `${id}.tar`);
  }
}
