/**
 * Archives that were uploaded: each row is there before its file, and goes after it.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";

/** One upload's row. */
export interface UploadRow {
  readonly id: string;
  /** process that took it */
  readonly owner: string;
  readonly tokenId: string;
  /** task that it is the workspace of (null: it waits for one) */
  readonly taskId: string | null;
  readonly createdAt: string;
}

function toUpload(row: Readonly<Record<string, unknown>>): UploadRow {
  return {
    id: String(row.id),
    owner: String(row.owner),
    tokenId: String(row.token_id),
    taskId: row.task_id === null ? null : String(row.task_id),
    createdAt: String(row.created_at),
  };
}

/** The table of uploads. */
export class UploadStore {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Notes an upload before its file is made. */
  add(upload: Pick<UploadRow, "id" | "owner" | "tokenId">): void {
    this.#database.prepare("INSERT INTO uploads (id, owner, token_id, created_at) VALUES (?, ?, ?, ?)")
      .run(upload.id, upload.owner, upload.tokenId, new Date().toISOString());
  }

  /** One upload, or undefined. */
  get(id: string): UploadRow | undefined {
    const row = this.#database.prepare("SELECT * FROM uploads WHERE id = ?").get(id);
    return row === undefined ? undefined : toUpload(row);
  }

  /** All uploads. */
  all(): UploadRow[] {
    return this.#database.prepare("SELECT * FROM uploads").all().map(toUpload);
  }

  /** The upload that is a task's workspace, or undefined. */
  ofTask(taskId: string): UploadRow | undefined {
    const row = this.#database.prepare("SELECT * FROM uploads WHERE task_id = ?").get(taskId);
    return row === undefined ? undefined : toUpload(row);
  }

  /** Gives an upload to a task; false: there is none that waits. */
  give(id: string, taskId: string): boolean {
    const { changes } = this.#database.prepare(
      "UPDATE uploads SET task_id = ? WHERE id = ? AND task_id IS NULL",
    ).run(taskId, id);
    return changes === 1;
  }

  /** Forgets an upload. */
  remove(id: string): void {
    this.#database.prepare("DELETE FROM uploads WHERE id = ?").run(id);
  }
}
