/**
 * Whom to tell that a task is over, and how far that has come.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";

/** A call that is to be made. */
export interface WebhookRow {
  readonly taskId: string;
  readonly url: string;
  /** tries so far */
  readonly tries: number;
}

/** Where a call is: its task is not over; it is due at its time; it was answered; it was given up. */
export type WebhookState = "waiting" | "due" | "delivered" | "failed";

/** The table of calls. */
export class WebhookStore {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Notes whom a task's end is told to. */
  add(taskId: string, url: string): void {
    this.#database.prepare(
      "INSERT INTO webhooks (task_id, url, state, tries, next_at) VALUES (?, ?, 'waiting', 0, '')",
    ).run(taskId, url);
  }

  /** The task is over. */
  due(taskId: string, nextAt: string): void {
    this.#database.prepare("UPDATE webhooks SET state = 'due', next_at = ? WHERE task_id = ?")
      .run(nextAt, taskId);
  }

  /** Calls whose time has come. */
  next(now: string, limit: number): WebhookRow[] {
    return this.#database.prepare(
      "SELECT task_id, url, tries FROM webhooks WHERE state = 'due' AND next_at <= ? ORDER BY next_at LIMIT ?",
    ).all(now, limit).map((row) => ({
      taskId: String(row.task_id),
      url: String(row.url),
      tries: Number(row.tries),
    }));
  }

  /** A try is over: `state` "due" tries again at `nextAt`. */
  tried(taskId: string, outcome: { state: WebhookState; nextAt: string; note: string }): void {
    this.#database.prepare(
      "UPDATE webhooks SET state = ?, next_at = ?, note = ?, tries = tries + 1 WHERE task_id = ? AND state = 'due'",
    ).run(outcome.state, outcome.nextAt, outcome.note, taskId);
  }

  /** How a task's call went (undefined: it has none). */
  of(taskId: string): { state: WebhookState; tries: number; note: string | null } | undefined {
    const row = this.#database.prepare("SELECT state, tries, note FROM webhooks WHERE task_id = ?").get(
      taskId,
    );
    if (row === undefined) return undefined;
    const note = row.note === null ? null : String(row.note);
    return { state: String(row.state) as WebhookState, tries: Number(row.tries), note };
  }
}
