/**
 * Tasks in SQLite: the queue that they wait in, and what became of them. What is in a row's JSON is the caller's
 * business; a key of a model's API never is. Whatever changes a task's state writes the event that says so, too: in
 * one transaction, so that after a crash there are both or neither.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import { inTransaction, openDatabase } from "./database.ts";
import { EventStore } from "./event_store.ts";
import { type TaskRow, toTaskRow } from "./task_rows.ts";
import { statesBefore, type TaskState } from "./task_state.ts";
import { UploadStore } from "./upload_store.ts";
import { WebhookStore } from "./webhook_store.ts";

export type { EventRow } from "./event_store.ts";
export type { TaskRow } from "./task_rows.ts";

/** A task that is accepted. */
export interface NewTask extends
  Pick<
    TaskRow,
    "id" | "request" | "owner" | "tokenId" | "attached" | "priority" | "labels" | "memoryMib" | "retry"
  > {
  readonly hasOwnKey: boolean;
  readonly idempotencyKey?: string | undefined;
  readonly requestDigest?: string | undefined;
  readonly uploadId?: string | undefined;
  readonly webhookUrl?: string | undefined;
}

/** A change of a task's state. */
export interface StateChange {
  readonly id: string;
  readonly state: TaskState;
  readonly cause?: string | undefined;
  /** result as JSON, with its event in `events` */
  readonly result?: string | undefined;
  /** events as JSON, in order */
  readonly events: readonly string[];
}

/** What tasks are wanted. */
export interface TaskFilter {
  /** whose (undefined: everybody's) */
  readonly tokenId?: string | undefined;
  readonly states?: readonly TaskState[] | undefined;
  readonly agent?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** only those accepted before the one at this position */
  readonly beforePosition?: number | undefined;
  readonly limit: number;
}

/** The database. */
export class TaskStore implements Disposable {
  readonly events: EventStore;
  readonly uploads: UploadStore;
  readonly webhooks: WebhookStore;
  readonly #database: DatabaseSync;

  /** Opens the file at `path`, making it if there is none. */
  constructor(path: string) {
    this.#database = openDatabase(path);
    this.events = new EventStore(this.#database);
    this.uploads = new UploadStore(this.#database);
    this.webhooks = new WebhookStore(this.#database);
  }

  /** the database itself, for other tables in it */
  get database(): DatabaseSync {
    return this.#database;
  }

  /** Adds a task that waits; false: its upload is not there. What this wrote survives a loss of power. */
  addTask(task: NewTask, events: readonly string[]): boolean {
    return this.#durably(() => {
      if (task.uploadId !== undefined && !this.uploads.give(task.uploadId, task.id)) return false;
      this.#database.prepare(
        `INSERT INTO tasks (id, state, request, owner, token_id, attached, priority, labels, memory_mib, retry,
           has_own_key, idempotency_key, request_digest, created_at, position)
         SELECT ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, COALESCE(MAX(position), 0) + 1 FROM tasks`,
      ).run(
        task.id,
        task.request,
        task.owner,
        task.tokenId,
        task.attached ? 1 : 0,
        task.priority,
        JSON.stringify(task.labels),
        task.memoryMib,
        task.retry,
        task.hasOwnKey ? 1 : 0,
        task.idempotencyKey ?? null,
        task.requestDigest ?? null,
        new Date().toISOString(),
      );
      if (task.webhookUrl !== undefined) this.webhooks.add(task.id, task.webhookUrl);
      for (const event of events) this.events.add(task.id, event);
      return true;
    });
  }

  /**
   * Changes a task's state, or several times in a row; false: the state that it is in does not allow this, or it is not
   * there, and nothing was written.
   */
  change(first: StateChange, ...more: readonly StateChange[]): boolean {
    const step = (): boolean => this.#change(first) && more.every((change) => this.#mustChange(change));
    return first.result === undefined ? inTransaction(this.#database, step) : this.#durably(step);
  }

  #mustChange(change: StateChange): true {
    if (!this.#change(change)) throw new Error(`Task ${change.id} cannot become ${change.state}`);
    return true;
  }

  #change({ id, state, cause, result, events }: StateChange): boolean {
    const now = new Date().toISOString();
    const before = statesBefore(state);
    const { changes } = this.#database.prepare(
      `UPDATE tasks SET state = ?, cause = ?, result = ?, ended_at = ?,
         started_at = CASE WHEN ? = 'preparing' THEN ? ELSE started_at END, attempt = attempt + (? = 'preparing')
       WHERE id = ? AND state IN (${before.map(() => "?").join(", ")})`,
    ).run(
      state,
      cause ?? null,
      result ?? null,
      result === undefined ? null : now,
      state,
      now,
      state,
      id,
      ...before,
    );
    if (changes !== 1) return false;
    for (const event of events) this.events.add(id, event);
    if (result !== undefined) this.webhooks.due(id, now);
    return true;
  }

  /** Another process has the task now. */
  adopt(id: string, owner: string): void {
    this.#database.prepare("UPDATE tasks SET owner = ? WHERE id = ?").run(owner, id);
  }

  /**
   * The task of this process whose turn it is: tokens take turns, the one with the fewest tasks that run first, then the
   * one whose last turn is longest ago; among a token's tasks the highest priority, then the oldest.
   */
  next(owner: string): TaskRow | undefined {
    const row = this.#database.prepare(
      `SELECT tasks.* FROM tasks
       LEFT JOIN turns ON turns.token_id = tasks.token_id
       LEFT JOIN (
         SELECT token_id, count(*) AS running FROM tasks WHERE state IN ('preparing', 'running') GROUP BY token_id
       ) AS busy ON busy.token_id = tasks.token_id
       WHERE tasks.state = 'queued' AND tasks.owner = ?
       ORDER BY COALESCE(busy.running, 0), COALESCE(turns.last_turn, 0), priority DESC, position LIMIT 1`,
    ).get(owner);
    return row === undefined ? undefined : toTaskRow(row);
  }

  /** Notes that a token had its turn. */
  tookTurn(tokenId: string): void {
    this.#database.prepare(
      `INSERT INTO turns (token_id, last_turn) SELECT ?, COALESCE(MAX(last_turn), 0) + 1 FROM turns WHERE true
       ON CONFLICT (token_id) DO UPDATE SET last_turn = excluded.last_turn`,
    ).run(tokenId);
  }

  /** One task, or undefined. */
  task(id: string): TaskRow | undefined {
    const row = this.#database.prepare("SELECT * FROM tasks WHERE id = ?").get(id);
    return row === undefined ? undefined : toTaskRow(row);
  }

  /** The task that a token made with an idempotency key, or undefined. */
  taskByKey(tokenId: string, key: string): TaskRow | undefined {
    const row = this.#database.prepare("SELECT * FROM tasks WHERE token_id = ? AND idempotency_key = ?")
      .get(tokenId, key);
    return row === undefined ? undefined : toTaskRow(row);
  }

  /** Tasks, newest first. */
  tasks(filter: TaskFilter): TaskRow[] {
    const { tokenId, states, agent, labels = {}, beforePosition, limit } = filter;
    const names = Object.entries(labels);
    const clauses = [
      tokenId === undefined ? [] : ["token_id = ?"],
      states === undefined ? [] : [`state IN (${states.map(() => "?").join(", ")})`],
      agent === undefined ? [] : ["json_extract(request, '$.agent') = ?"],
      beforePosition === undefined ? [] : ["position < ?"],
      names.map(() => "EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)"),
    ].flat();
    const values = [tokenId, ...states ?? [], agent, beforePosition, ...names.flat()]
      .filter((value) => value !== undefined);
    const where = clauses.length === 0 ? "" : `WHERE ${clauses.join(" AND ")}`;
    return this.#database.prepare(`SELECT * FROM tasks ${where} ORDER BY position DESC LIMIT ?`)
      .all(...values, limit).map(toTaskRow);
  }

  /** All tasks that are not over, oldest first. */
  unfinished(): TaskRow[] {
    return this.#database.prepare(
      "SELECT * FROM tasks WHERE state IN ('queued', 'preparing', 'running') ORDER BY position",
    ).all().map(toTaskRow);
  }

  /** All tasks that live only as long as somebody follows them. */
  attached(): TaskRow[] {
    return this.#database.prepare("SELECT * FROM tasks WHERE attached = 1").all().map(toTaskRow);
  }

  /** Ids of tasks that were over before a time, the oldest first; not those whose end is still to be told. */
  endedBefore(time: string, limit: number): string[] {
    return this.#database.prepare(
      `SELECT id FROM tasks WHERE ended_at < ? AND attached = 0
         AND NOT EXISTS (SELECT 1 FROM webhooks WHERE task_id = tasks.id AND webhooks.state = 'due')
       ORDER BY ended_at LIMIT ?`,
    ).all(time, limit).map(({ id }) => String(id));
  }

  /** How many tasks are in each state. */
  counts(tokenId?: string): Partial<Record<TaskState, number>> {
    const rows = this.#database.prepare(
      "SELECT state, count(*) AS n FROM tasks WHERE ?1 IS NULL OR token_id = ?1 GROUP BY state",
    ).all(tokenId ?? null);
    return Object.fromEntries(rows.map((row) => [String(row.state), Number(row.n)]));
  }

  /** Removes a task with its events. */
  removeTask(id: string): void {
    this.#database.prepare("DELETE FROM tasks WHERE id = ?").run(id);
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  #durably<T>(step: () => T): T {
    this.#database.exec("PRAGMA synchronous = FULL");
    try {
      return inTransaction(this.#database, step);
    } finally {
      this.#database.exec("PRAGMA synchronous = NORMAL");
    }
  }
}
