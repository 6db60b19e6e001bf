/**
 * A task's row as the API shows it.
 *
 * @module
 */

import type { TaskResult } from "../session/task.ts";
import type { TaskRow } from "../store/task_store.ts";
import type { StoredRequest, TaskView } from "./schemas.ts";

/** What is shown of a row. */
export function toView(row: TaskRow): TaskView {
  const { id, state, cause, attempt, labels, priority, createdAt, startedAt, endedAt } = row;
  return {
    id,
    state,
    cause,
    attempt,
    labels,
    priority,
    request: JSON.parse(row.request) as StoredRequest,
    result: row.result === null ? null : JSON.parse(row.result) as TaskResult,
    createdAt,
    startedAt,
    endedAt,
  };
}
