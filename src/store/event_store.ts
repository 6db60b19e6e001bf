/**
 * Events of tasks: each task's are numbered from 1, without gaps.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";

/** One event's row. */
export interface EventRow {
  /** position among the task's events, from 1 */
  readonly seq: number;
  /** ISO 8601 */
  readonly at: string;
  /** event as JSON */
  readonly body: string;
}

/** The table of events. */
export class EventStore {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Adds an event at the end of a task's events, and gives its position. */
  add(taskId: string, body: string): number {
    // One statement: two processes never get the same position
    const row = this.#database.prepare(
      `INSERT INTO events (task_id, seq, at, body)
       SELECT ?1, COALESCE(MAX(seq), 0) + 1, ?2, ?3 FROM events WHERE task_id = ?1 RETURNING seq`,
    ).get(taskId, new Date().toISOString(), body);
    return Number(row?.seq);
  }

  /** Events of a task after a position, oldest first, at most `limit`. */
  after(taskId: string, afterSeq: number, limit: number): EventRow[] {
    return this.#database.prepare(
      "SELECT seq, at, body FROM events WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?",
    ).all(taskId, afterSeq, limit).map((row) => ({
      seq: Number(row.seq),
      at: String(row.at),
      body: String(row.body),
    }));
  }
}
