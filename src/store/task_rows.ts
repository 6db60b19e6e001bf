/**
 * A task's row as it is read.
 *
 * @module
 */

import type { TaskState } from "./task_state.ts";

/** One task's row. */
export interface TaskRow {
  readonly id: string;
  /** place in the order in which tasks were accepted */
  readonly position: number;
  readonly state: TaskState;
  /** request as JSON; credentials are never in it */
  readonly request: string;
  /** result as JSON (null: not over) */
  readonly result: string | null;
  /** why it ended so (null: not over) */
  readonly cause: string | null;
  /** process that has the task */
  readonly owner: string;
  /** token that it belongs to */
  readonly tokenId: string;
  /** the task lives only as long as somebody follows it */
  readonly attached: boolean;
  readonly priority: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly memoryMib: number;
  /** starts so far */
  readonly attempt: number;
  /** times that it may be started anew */
  readonly retry: number;
  /** its credentials live in the memory of the process that took it */
  readonly hasOwnKey: boolean;
  /** digest of the request that its idempotency key came with */
  readonly requestDigest: string | null;
  /** times in ISO 8601 (null: not yet) */
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

type Row = Readonly<Record<string, unknown>>;

function text(value: unknown): string | null {
  return value === null ? null : String(value);
}

/** A row of SQLite as a task's. */
export function toTaskRow(row: Row): TaskRow {
  return {
    id: String(row.id),
    position: Number(row.position),
    state: String(row.state) as TaskState,
    request: String(row.request),
    result: text(row.result),
    cause: text(row.cause),
    owner: String(row.owner),
    tokenId: String(row.token_id),
    attached: row.attached === 1,
    priority: Number(row.priority),
    labels: JSON.parse(String(row.labels)) as Record<string, string>,
    memoryMib: Number(row.memory_mib),
    attempt: Number(row.attempt),
    retry: Number(row.retry),
    hasOwnKey: row.has_own_key === 1,
    requestDigest: text(row.request_digest),
    createdAt: String(row.created_at),
    startedAt: text(row.started_at),
    endedAt: text(row.ended_at),
  };
}
