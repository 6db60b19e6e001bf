/**
 * Takes tasks: whatever is wrong with one is said before anything of it is stored, and what is stored is not lost.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import { findAgent } from "../session/agents.ts";
import { keyHeaders, ModelCredentials } from "../session/model_access.ts";
import { ownId } from "../session/owner.ts";
import { newSessionId } from "../session/record.ts";
import type { TaskRequest } from "../session/task.ts";
import { SessionError } from "../session/session_error.ts";
import { taskBudget, taskPolicy } from "../session/task_policy.ts";
import type { TaskStore } from "../store/task_store.ts";
import { packInlineFiles } from "./inline_files.ts";
import { LOCAL_PRINCIPAL, type Principal } from "./principal.ts";
import { type Submission, toStoredRequest } from "./schemas.ts";
import { eventBody, type QueueLimits } from "./queue_options.ts";
import type { TaskQueue } from "./task_queue.ts";
import type { UploadFolder } from "./upload_folder.ts";

/** Tasks that wait at once. */
const MAX_QUEUED_TASKS = 10_000;

/** How a task is submitted. */
export interface SubmitOptions {
  readonly principal?: Principal;
  /** what makes a second submission the same one, with the digest of its request */
  readonly idempotency?: { readonly key: string; readonly digest: string } | undefined;
}

/** What tasks are taken into. */
export interface TaskAdmissionOptions {
  readonly stateDir: string;
  readonly store: TaskStore;
  readonly uploads: UploadFolder;
  readonly queue: TaskQueue;
  readonly limits: QueueLimits;
  /** credentials of tasks that have none of their own */
  readonly credentialsFor: (request: Pick<TaskRequest, "agent" | "modelUrl">) => ModelCredentials;
  /** tasks that somebody waits for wait, too, where there is no room (false: they are refused) */
  readonly isDurable: boolean;
  /** sessions of a token that have a VM and are no task's */
  readonly sessionCount: (tokenId: string) => number;
  readonly callsWebhooks: boolean;
  readonly clonesRepos: boolean;
}

function ownCredentials({ apiKey, modelHeaders }: Submission, spec: AgentSpec): ModelCredentials | undefined {
  if (modelHeaders !== undefined) return new ModelCredentials(modelHeaders);
  if (apiKey === undefined || spec.model === undefined) return undefined;
  return new ModelCredentials(keyHeaders(spec.model, apiKey));
}

/** Where tasks come in. */
export class TaskAdmission {
  readonly #options: TaskAdmissionOptions;

  constructor(options: TaskAdmissionOptions) {
    this.#options = options;
  }

  /** Takes a task and gives its id. @throws {SessionError} that says what is wrong with it */
  async submit(submission: Submission, options: SubmitOptions = {}): Promise<string> {
    const { principal = LOCAL_PRINCIPAL, idempotency } = options;
    const { uploads } = this.#options;
    // First of all, as its upload may be gone; and again after its files are written, as it may come twice at once
    const known = this.#earlier(principal, idempotency);
    if (known !== undefined) return known;
    const spec = this.#check(submission, principal);
    const { files } = submission;
    if (files === undefined) return this.#store(submission, { spec, principal, idempotency });
    const upload = await uploads.add(principal.tokenId, packInlineFiles(files));
    try {
      return this.#store({ ...submission, uploadId: upload.id }, { spec, principal, idempotency });
    } finally {
      if (this.#isWaiting(upload.id)) await uploads.remove(upload.id);
    }
  }

  #isWaiting(uploadId: string): boolean {
    return this.#options.store.uploads.get(uploadId)?.taskId === null;
  }

  /** Stores a task and lets it wait for its turn; nothing else happens in between. */
  #store(
    submission: Submission,
    { spec, principal, idempotency }: SubmitOptions & { spec: AgentSpec; principal: Principal },
  ): string {
    const { store, queue, stateDir, credentialsFor } = this.#options;
    const known = this.#earlier(principal, idempotency);
    if (known !== undefined) return known;
    const { attached, priority, labels, retry, uploadId, webhook, modelUrl } = submission;
    const id = newSessionId();
    const credentials = ownCredentials(submission, spec);
    const isAdded = store.addTask({
      id,
      request: JSON.stringify(toStoredRequest(submission)),
      owner: ownId(stateDir),
      tokenId: principal.tokenId,
      attached,
      priority,
      labels,
      memoryMib: submission.memoryMib ?? spec.memoryMib,
      retry,
      hasOwnKey: credentials !== undefined,
      idempotencyKey: idempotency?.key,
      requestDigest: idempotency?.digest,
      uploadId,
      webhookUrl: webhook?.url,
    }, [eventBody({ type: "state", state: "queued" })]);
    if (!isAdded) throw new SessionError("not_found", `There is no upload "${uploadId}"`);
    queue.add({ id, attached }, credentials ?? credentialsFor({ agent: spec.name, modelUrl }));
    return id;
  }

  #check(submission: Submission, principal: Principal): AgentSpec {
    const { callsWebhooks, clonesRepos, uploads } = this.#options;
    const { agent, webhook, repo, uploadId } = submission;
    const spec = findAgent(agent);
    if (spec === undefined) throw new SessionError("config", `There is no agent "${agent}"`);
    taskPolicy(submission);
    taskBudget(submission, spec.model);
    this.#requireRoom(submission, submission.memoryMib ?? spec.memoryMib, principal);
    if (webhook !== undefined && !callsWebhooks) {
      throw new SessionError("config", "This server calls no webhooks: sandbox serve does");
    }
    if (repo !== undefined && !clonesRepos) {
      throw new SessionError("config", "This server clones no repositories: upload the files");
    }
    if (uploadId !== undefined) uploads.waiting(uploadId, principal.tokenId);
    return spec;
  }

  #requireRoom(submission: Submission, memoryMib: number, principal: Principal): void {
    const { limits: { maxMemoryMib }, queue, isDurable } = this.#options;
    if (memoryMib > maxMemoryMib) {
      throw new SessionError("config", `memoryMib is over what this server gives: ${maxMemoryMib} MiB`);
    }
    // Whoever waits in front of a terminal is told at once
    if (submission.attached && !isDurable) queue.requireRoom(memoryMib);
    if (queue.size >= MAX_QUEUED_TASKS) {
      throw new SessionError(
        "limit_reached",
        `${MAX_QUEUED_TASKS} tasks are waiting already: try again later`,
      );
    }
    this.requireQuota(principal);
  }

  /** Makes sure that a token may have one task or session more. @throws {SessionError} when it may not */
  requireQuota({ tokenId, maxActive }: Principal): void {
    if (maxActive === undefined) return;
    const { store, sessionCount } = this.#options;
    const { queued = 0, preparing = 0, running = 0 } = store.counts(tokenId);
    if (queued + preparing + running + sessionCount(tokenId) < maxActive) return;
    throw new SessionError("limit_reached", `This token may have ${maxActive} tasks and sessions at once`);
  }

  /** Id of the task that the same request made. @throws {SessionError} when the key was another request's */
  #earlier({ tokenId }: Principal, idempotency: SubmitOptions["idempotency"]): string | undefined {
    if (idempotency === undefined) return undefined;
    const row = this.#options.store.taskByKey(tokenId, idempotency.key);
    if (row === undefined || row.requestDigest === idempotency.digest) return row?.id;
    throw new SessionError(
      "idempotency_mismatch",
      "Idempotency-Key was used for another request: take a new one",
    );
  }
}
