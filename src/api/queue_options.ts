/**
 * What the queue of tasks is made from, and what its parts are called.
 *
 * @module
 */

import type { ModelCredentials } from "../session/model_access.ts";
import type { runTask, RunTaskOptions } from "../session/run_task.ts";
import type { TaskOutcome, TaskRequest } from "../session/task.ts";
import type { TaskState } from "../store/task_state.ts";
import type { TaskStore } from "../store/task_store.ts";
import type { RepoSource, ServiceEvent } from "./schemas.ts";
import type { SessionService } from "./session_service.ts";
import type { TaskFolders } from "./task_folders.ts";
import type { UploadFolder } from "./upload_folder.ts";

/** How a task may be run: replaced in tests. */
export type TaskRunner = typeof runTask;

/** Makes the archive `targetPath` of a workspace from a repository, and gives what its task may reach. */
export type FetchRepo = (
  source: RepoSource & Pick<TaskRequest, "network">,
  targetPath: string,
  signal: AbortSignal,
) => Promise<TaskRequest["network"]>;

/** Hears of what happens to tasks. */
export interface QueueListener {
  onEvent(id: string, event: ServiceEvent): void;
}

/** How much runs at once. */
export interface QueueLimits {
  /** VMs, those of kept sessions among them */
  readonly maxVms: number;
  /** RAM of these VMs together, in `MiB` */
  readonly maxMemoryMib: number;
}

/** What a queue is made from. */
export interface TaskQueueOptions {
  readonly stateDir: string;
  readonly store: TaskStore;
  readonly uploads: UploadFolder;
  readonly folders: TaskFolders;
  readonly sessions: SessionService;
  readonly runner: TaskRunner;
  readonly prepare: RunTaskOptions["prepare"];
  readonly limits: QueueLimits;
  /** credentials of tasks that have none of their own */
  readonly credentialsFor: (request: Pick<TaskRequest, "agent" | "modelUrl">) => ModelCredentials;
  readonly fetchRepo: FetchRepo | undefined;
  /** a task is over */
  readonly onOver: (id: string) => void;
}

/** The state that each outcome leads to. */
export const STATE_OF: Readonly<Record<TaskOutcome, TaskState>> = {
  done: "succeeded",
  agent_failed: "failed",
  host_failed: "failed",
  timeout: "timed_out",
  budget_exceeded: "budget_exceeded",
  cancelled: "cancelled",
  interrupted: "interrupted",
};

/** An event as the store has it. */
export function eventBody(event: ServiceEvent): string {
  return JSON.stringify(event);
}
