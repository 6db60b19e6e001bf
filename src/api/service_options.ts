/**
 * What a service is made from.
 *
 * @module
 */

import type { SessionMaker } from "../session/boot_session.ts";
import type { ModelCredentials } from "../session/model_access.ts";
import type { RunTaskOptions } from "../session/run_task.ts";
import type { FetchRepo, QueueLimits, TaskRunner } from "./queue_options.ts";
import type { WebhookSenderOptions } from "./webhook_sender.ts";

/** Options of {@linkcode openTaskService}. */
export interface TaskServiceOptions {
  readonly stateDir: string;
  /** what runs a task (default: a VM) */
  readonly runner?: TaskRunner;
  /** what makes the image (default: the one for the agent, built where it is missing) */
  readonly prepare?: RunTaskOptions["prepare"];
  /** what makes sessions that are no task's (default: VMs) */
  readonly makeSession?: SessionMaker;
  readonly limits?: QueueLimits;
  /** goes on with the tasks of servers that are gone, and leaves its own to the next one (default: each is cancelled) */
  readonly isDurable?: boolean;
  /** how long a task that is over is kept with its files, in `ms` (default: until somebody deletes it) */
  readonly retainMs?: number | undefined;
  /** what tasks without credentials of their own use (default: nothing) */
  readonly credentialsFor?: (agent: string) => ModelCredentials;
  /** how a durable server calls webhooks (default: at public addresses, for a day) */
  readonly webhooks?: Partial<Pick<WebhookSenderOptions, "post" | "pausesMs">>;
  /** makes a workspace's archive from a repository (default: such tasks are refused) */
  readonly fetchRepo?: FetchRepo | undefined;
}
