/**
 * How long tasks that are over are kept: attached ones until whoever followed them had time to fetch their files, all
 * others for as long as the server is told to.
 *
 * @module
 */

import { isOver } from "../store/task_state.ts";
import type { TaskRow, TaskStore } from "../store/task_store.ts";

/** How long an attached task that is over waits to be asked for, in `ms`: whoever followed it fetches its files. */
const ATTACHED_MS = 20_000;
/** How often old tasks are looked for, in `ms`. */
const LOOK_MS = 60_000;
/** Most tasks that are forgotten in a row. */
const BATCH = 100;

/** Options of {@linkcode TaskRetention}. */
export interface RetentionOptions {
  readonly store: Pick<TaskStore, "endedBefore">;
  /** whose attached tasks are this server's */
  readonly owner: string;
  /** how long a task that is over is kept, in `ms` (undefined: until somebody deletes it) */
  readonly keepMs: number | undefined;
  readonly forget: (id: string) => Promise<void>;
}

/** The tasks that are to be forgotten some time. */
export class TaskRetention implements Disposable {
  readonly #options: RetentionOptions;
  readonly #attached = new Map<string, ReturnType<typeof setTimeout>>();
  readonly #timer: ReturnType<typeof setInterval> | undefined;

  constructor(options: RetentionOptions) {
    this.#options = options;
    if (options.keepMs === undefined) return;
    this.#timer = setInterval(() => void this.sweep(), Math.min(LOOK_MS, options.keepMs));
    Deno.unrefTimer(this.#timer);
  }

  /** Forgets what was kept long enough; what cannot be forgotten now is tried again. */
  async sweep(): Promise<void> {
    const { store, keepMs, forget } = this.#options;
    if (keepMs === undefined) return;
    try {
      const before = new Date(Date.now() - keepMs).toISOString();
      for (const id of store.endedBefore(before, BATCH)) await forget(id);
    } catch (error) {
      console.error("Old tasks cannot be removed:", error);
    }
  }

  /** Somebody used a task, or it is over: the time of an attached one starts anew. */
  touch({ id, attached, state, owner }: Pick<TaskRow, "id" | "attached" | "state" | "owner">): void {
    if (!attached || !isOver(state) || owner !== this.#options.owner) return;
    this.forgotten(id);
    this.#attached.set(id, setTimeout(() => void this.#options.forget(id), ATTACHED_MS));
  }

  /** A task is gone. */
  forgotten(id: string): void {
    clearTimeout(this.#attached.get(id));
    this.#attached.delete(id);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const timer of this.#attached.values()) clearTimeout(timer);
  }
}
