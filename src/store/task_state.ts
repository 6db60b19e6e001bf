/**
 * Where a task is in its life, and where it may go from there: one table, and nothing else changes a state.
 *
 * @module
 */

/** States of a task. */
export const TASK_STATES = [
  "queued",
  "preparing",
  "running",
  "succeeded",
  "failed",
  "cancelled",
  "timed_out",
  "budget_exceeded",
  /** the server ended while it ran */
  "interrupted",
] as const;

/** State of a task. */
export type TaskState = typeof TASK_STATES[number];

const ENDS = ["succeeded", "failed", "cancelled", "timed_out", "budget_exceeded", "interrupted"] as const;

/** States that each state may be followed by. */
export const TRANSITIONS: Readonly<Record<TaskState, readonly TaskState[]>> = {
  queued: ["preparing", "cancelled", "interrupted"],
  preparing: ["running", ...ENDS],
  running: ENDS,
  succeeded: [],
  failed: ["queued"],
  cancelled: [],
  timed_out: [],
  budget_exceeded: [],
  interrupted: ["queued"],
};

/** Whether a task in this state is over, unless it is tried anew. */
export function isOver(state: TaskState): boolean {
  return ENDS.some((end) => end === state);
}

/** States that may be followed by `state`. */
export function statesBefore(state: TaskState): TaskState[] {
  return TASK_STATES.filter((from) => TRANSITIONS[from].includes(state));
}
