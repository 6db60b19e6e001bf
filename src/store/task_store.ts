/**
 * Tasks, their events and uploads in SQLite. Several processes may have the same file open. What is in a row's
 * JSON is the caller's business; a key of a model's API never is.
 *
 * @module
 */

import type { DatabaseSync } from "node:sqlite";
import { openDatabase } from "./database.ts";

/** Where a task is in its life. */
export type TaskStatus = "running" | "ended";

/** One task's row. */
export interface TaskRow {
  readonly id: string;
  readonly status: TaskStatus;
  /** request as JSON */
  readonly request: string;
  /** result as JSON (null: not over) */
  readonly result: string | null;
  /** process that runs the task, as JSON */
  readonly owner: string;
  /** the task lives only as long as somebody follows it */
  readonly attached: boolean;
  /** ISO 8601 */
  readonly createdAt: string;
  /** ISO 8601 (null: not over) */
  readonly endedAt: string | null;
}

/** One event's row. */
export interface EventRow {
  /** position among the task's events, from 1 */
  readonly seq: number;
  /** ISO 8601 */
  readonly at: string;
  /** event as JSON */
  readonly body: string;
}

/** One upload's row. */
export interface UploadRow {
  readonly id: string;
  readonly owner: string;
  readonly createdAt: string;
}

type Row = Readonly<Record<string, unknown>>;

function toTask(row: Row): TaskRow {
  return {
    id: String(row.id),
    status: row.status === "ended" ? "ended" : "running",
    request: String(row.request),
    result: row.result === null ? null : String(row.result),
    owner: String(row.owner),
    attached: row.attached === 1,
    createdAt: String(row.created_at),
    endedAt: row.ended_at === null ? null : String(row.ended_at),
  };
}

/** The database. */
export class TaskStore implements Disposable {
  readonly #database: DatabaseSync;

  /** Opens the file at `path`, making it if there is none. */
  constructor(path: string) {
    this.#database = openDatabase(path);
  }

  /** Adds a running task. */
  addTask(task: Pick<TaskRow, "id" | "request" | "owner" | "attached">): void {
    this.#database.prepare(
      "INSERT INTO tasks (id, status, request, owner, attached, created_at) VALUES (?, 'running', ?, ?, ?, ?)",
    ).run(task.id, task.request, task.owner, task.attached ? 1 : 0, new Date().toISOString());
  }

  /** Ends a task, unless it has ended. */
  endTask(id: string, result: string): void {
    this.#database.prepare(
      "UPDATE tasks SET status = 'ended', result = ?, ended_at = ? WHERE id = ? AND status = 'running'",
    ).run(result, new Date().toISOString(), id);
  }

  /** One task, or undefined. */
  task(id: string): TaskRow | undefined {
    const row = this.#database.prepare("SELECT * FROM tasks WHERE id = ?").get(id);
    return row === undefined ? undefined : toTask(row);
  }

  /** All tasks, newest first. */
  tasks(): TaskRow[] {
    return this.#database.prepare("SELECT * FROM tasks ORDER BY created_at DESC, id").all().map(toTask);
  }

  /** Removes a task with its events. */
  removeTask(id: string): void {
    this.#database.prepare("DELETE FROM tasks WHERE id = ?").run(id);
  }

  /** Adds an event at the end of a task's events, and gives its position. */
  addEvent(taskId: string, body: string): number {
    const { next } = this.#database.prepare(
      "SELECT COALESCE(MAX(seq), 0) + 1 AS next FROM events WHERE task_id = ?",
    ).get(taskId) as { next: number };
    this.#database.prepare("INSERT INTO events (task_id, seq, at, body) VALUES (?, ?, ?, ?)")
      .run(taskId, next, new Date().toISOString(), body);
    return next;
  }

  /** Events of a task after a position, oldest first, at most `limit`. */
  events(taskId: string, afterSeq: number, limit: number): EventRow[] {
    return this.#database.prepare(
      "SELECT seq, at, body FROM events WHERE task_id = ? AND seq > ? ORDER BY seq LIMIT ?",
    ).all(taskId, afterSeq, limit).map((row) => ({
      seq: Number(row.seq),
      at: String(row.at),
      body: String(row.body),
    }));
  }

  /** Notes an upload before its file is made. */
  addUpload(id: string, owner: string): void {
    this.#database.prepare("INSERT INTO uploads (id, owner, created_at) VALUES (?, ?, ?)")
      .run(id, owner, new Date().toISOString());
  }

  /** All uploads. */
  uploads(): UploadRow[] {
    return this.#database.prepare("SELECT * FROM uploads").all().map((row) => ({
      id: String(row.id),
      owner: String(row.owner),
      createdAt: String(row.created_at),
    }));
  }

  /** Forgets an upload. */
  removeUpload(id: string): void {
    this.#database.prepare("DELETE FROM uploads WHERE id = ?").run(id);
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }
}
