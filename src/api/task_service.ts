/**
 * The tasks of one server: takes them, shows them, keeps their events and files, forgets them. HTTP is one way to it
 * (`app.ts`); `task_queue.ts` runs them.
 *
 * @module
 */

import { join } from "node:path";
import type { CredentialHeader } from "../../agent-images/agent_login.ts";
import { ModelCredentials } from "../session/model_access.ts";
import { isAlive, ownId, releaseOwn, sweepOwners } from "../session/owner.ts";
import { sweepStale } from "../session/record.ts";
import { postOutside } from "../session/notify.ts";
import { runTask } from "../session/run_task.ts";
import { SessionError } from "../session/session_error.ts";
import type { TaskRequest } from "../session/task.ts";
import { makeTaskBundle } from "../session/task_bundle.ts";
import { TASK_FILES } from "../session/task_files.ts";
import { isOver } from "../store/task_state.ts";
import { type EventRow, type TaskFilter, type TaskRow, TaskStore } from "../store/task_store.ts";
import { LOCAL_PRINCIPAL, type Principal, seesOwner } from "./principal.ts";
import type { Submission, TaskView } from "./schemas.ts";
import { SessionService } from "./session_service.ts";
import type { QueueLimits } from "./queue_options.ts";
import { TaskQueue } from "./task_queue.ts";
import type { TaskServiceOptions } from "./service_options.ts";
import { TaskFolders } from "./task_folders.ts";
import { TaskRetention } from "./task_retention.ts";
import { toView } from "./task_view.ts";
import { webhookKey } from "./webhook_key.ts";
import { type SubmitOptions, TaskAdmission } from "./task_admission.ts";
import { UploadFolder } from "./upload_folder.ts";
import { webhookSecret, WebhookSender } from "./webhook_sender.ts";

export type { TaskRunner } from "./queue_options.ts";
export type { TaskServiceOptions } from "./service_options.ts";

/** What runs at once where nobody says otherwise: each task is a VM, and the host has only so much memory. */
const DEFAULT_LIMITS: QueueLimits = { maxVms: 8, maxMemoryMib: Infinity };
const EVENT_PAGE_SIZE = 200;
/** Longest silence of a task's events, in `ms`. */
const KEEP_ALIVE_MS = 5000;

const NEVER = new AbortController().signal;

/** The tasks of one server. */
export class TaskService {
  /** the sessions that its tasks run in, and those that were kept */
  readonly sessions: SessionService;
  readonly store: TaskStore;
  readonly queue: TaskQueue;
  /** what calls webhooks (undefined: this server does not) */
  readonly webhooks: WebhookSender | undefined;
  readonly #options: TaskServiceOptions;
  readonly #stateDir: string;
  readonly #uploads: UploadFolder;
  readonly #folders: TaskFolders;
  readonly #admission: TaskAdmission;
  readonly #retention: TaskRetention;
  readonly #webhookKey: Uint8Array | undefined;
  #isClosed = false;

  /** Use {@linkcode openTaskService}. */
  constructor(options: TaskServiceOptions & { readonly store: TaskStore; readonly webhookKey?: Uint8Array }) {
    this.#options = options;
    this.#stateDir = options.stateDir;
    this.store = options.store;
    const limits = options.limits ?? DEFAULT_LIMITS;
    // They are for the provider that the server means: a task could name anybody
    const credentialsFor = ({ agent, modelUrl }: Pick<TaskRequest, "agent" | "modelUrl">): ModelCredentials =>
      (modelUrl === undefined ? options.credentialsFor?.(agent) : undefined) ?? new ModelCredentials([]);
    this.#folders = new TaskFolders(options.stateDir);
    this.#uploads = new UploadFolder(options.stateDir, options.store.uploads);
    this.sessions = new SessionService({
      ...options,
      requireRoom: (memoryMib, principal) => {
        this.#admission.requireQuota(principal);
        this.queue.requireRoom(memoryMib);
      },
      takeUpload: (id, tokenId, path) => this.#uploads.take(id, tokenId, path),
    });
    this.queue = new TaskQueue({
      stateDir: options.stateDir,
      store: options.store,
      uploads: this.#uploads,
      folders: this.#folders,
      sessions: this.sessions,
      runner: options.runner ?? runTask,
      prepare: options.prepare,
      limits,
      credentialsFor,
      fetchRepo: options.fetchRepo,
      onOver: (id) => void this.#tidy(id),
    });
    this.#retention = new TaskRetention({
      store: options.store,
      owner: ownId(options.stateDir),
      keepMs: options.retainMs,
      forget: (id) => this.#forget(id),
    });
    this.#webhookKey = options.webhookKey;
    this.#admission = new TaskAdmission({
      stateDir: options.stateDir,
      store: options.store,
      uploads: this.#uploads,
      queue: this.queue,
      limits,
      credentialsFor,
      isDurable: options.isDurable === true,
      sessionCount: (tokenId) => this.sessions.countOf(tokenId),
      callsWebhooks: options.webhookKey !== undefined,
      clonesRepos: options.fetchRepo !== undefined,
    });
    this.webhooks = options.webhookKey === undefined ? undefined : new WebhookSender({
      store: options.store,
      key: options.webhookKey,
      view: (id) => this.view(id),
      post: postOutside,
      ...options.webhooks,
    });
  }

  /** tasks that are not over, and kept sessions that run */
  get activeCount(): number {
    return this.queue.size + this.sessions.keptCount;
  }

  /** Removes what dead servers left: sessions, uploads, attached tasks, files without a task. */
  async sweep(): Promise<void> {
    await sweepStale(this.#stateDir);
    await this.sessions.sweep();
    for (const row of this.store.attached()) {
      if (!isAlive(this.#stateDir, row.owner)) await this.#forget(row.id);
    }
    if (this.#options.isDurable === true) this.queue.recover();
    await this.#uploads.sweep((taskId) => {
      const row = this.store.task(taskId);
      return row !== undefined && !isOver(row.state);
    });
    await this.#retention.sweep();
    await this.#folders.sweep((id) => this.store.task(id) !== undefined);
    sweepOwners(this.#stateDir);
  }

  /** The secret that calls about a token's tasks are signed with. */
  webhookSecret({ tokenId }: Principal): string {
    if (this.#webhookKey !== undefined) return webhookSecret(this.#webhookKey, tokenId);
    throw new SessionError("config", "This server calls no webhooks: sandbox serve does");
  }

  /** Stores an archive for a later task. */
  async upload(
    content: ReadableStream<Uint8Array> | null,
    { tokenId }: Principal = LOCAL_PRINCIPAL,
  ): Promise<{ id: string; sizeBytes: number }> {
    return await this.#uploads.add(tokenId, content);
  }

  /** Takes a task: once this returns, it is not lost. */
  async submit(submission: Submission, options?: SubmitOptions): Promise<TaskView> {
    return this.view(await this.#admission.submit(submission, options));
  }

  /** @throws {SessionError} when there is no such task, or it is not for this principal to see */
  requireSeen(id: string, principal: Principal): void {
    this.#retention.touch(this.#row(id, principal));
  }

  /** A task as it is now. */
  view(id: string, principal: Principal = LOCAL_PRINCIPAL): TaskView {
    const row = this.#row(id, principal);
    this.#retention.touch(row);
    return toView(row);
  }

  /** Tasks that a principal sees, newest first, with the position that the next page begins after. */
  list(filter: TaskFilter): { tasks: TaskView[]; nextPosition: number | undefined } {
    const rows = this.store.tasks({ ...filter, limit: filter.limit + 1 });
    const page = rows.slice(0, filter.limit);
    return {
      tasks: page.map(toView),
      nextPosition: rows.length > page.length ? page.at(-1)?.position : undefined,
    };
  }

  /**
   * Events of a task after a position, as they come; ends after the last one. Gives undefined when nothing
   * came for a while, so that a broken connection is noticed.
   */
  async *follow(id: string, afterSeq: number, signal: AbortSignal): AsyncGenerator<EventRow | undefined> {
    this.#row(id);
    const live = this.queue.live(id);
    using _ = live?.follow();
    let seq = afterSeq;
    while (!signal.aborted && !this.#isClosed) {
      const isGone = this.queue.live(id) === undefined;
      const rows = this.store.events.after(id, seq, EVENT_PAGE_SIZE);
      for (const row of rows) {
        yield row;
        seq = row.seq;
      }
      if (rows.length > 0) continue;
      if (isGone || live === undefined) return;
      if (!await live.wait(KEEP_ALIVE_MS, signal)) yield undefined;
    }
  }

  /** Events of a task after a position, waiting up to `waitMs` for the first. */
  async events(id: string, afterSeq: number, waitMs: number): Promise<EventRow[]> {
    this.#row(id);
    const live = this.queue.live(id);
    using _ = live?.follow();
    const rows = this.store.events.after(id, afterSeq, EVENT_PAGE_SIZE);
    if (rows.length > 0 || live === undefined || waitMs === 0) return rows;
    // It is not for long: that nobody waits any more need not be known
    await live.wait(waitMs, NEVER);
    return this.#isClosed ? [] : this.store.events.after(id, afterSeq, EVENT_PAGE_SIZE);
  }

  /** Folder with a task's files. @throws {SessionError} while the task is not over */
  filesFolder(id: string): string {
    const row = this.#row(id);
    this.#retention.touch(row);
    if (!isOver(row.state)) throw new SessionError("conflict", "Task is not over yet");
    return this.#folders.path(id);
  }

  /** Path of one of a task's files. */
  async file(id: string, kind: keyof typeof TASK_FILES): Promise<string> {
    const path = join(this.filesFolder(id), TASK_FILES[kind]);
    try {
      await Deno.stat(path);
    } catch (cause) {
      throw new SessionError("not_found", `Task has no ${TASK_FILES[kind]}`, { cause });
    }
    return path;
  }

  /** Path of the archive with a task's results. */
  async bundle(id: string): Promise<string> {
    const folder = this.filesFolder(id);
    const { request: { agent, prompt }, result, createdAt, startedAt, endedAt } = this.view(id);
    return await makeTaskBundle(folder, { id, agent, prompt, createdAt, startedAt, endedAt, ...result });
  }

  /** Replaces what a task's requests to its model's API carry. */
  renewCredentials(id: string, headers: readonly CredentialHeader[]): void {
    this.#row(id);
    const live = this.queue.live(id);
    if (live === undefined) throw new SessionError("conflict", "Task is over");
    live.credentials.renew(headers);
  }

  /** Ends a task; one that is over stays as it is. */
  cancel(id: string): TaskView {
    this.#row(id);
    this.queue.cancel(id);
    return this.view(id);
  }

  /** Ends a task if need be, and forgets it with its files. */
  async remove(id: string): Promise<void> {
    this.#row(id);
    const live = this.queue.live(id);
    this.queue.cancel(id);
    await live?.run;
    await this.#forget(id);
  }

  /** Ends what runs, forgets attached tasks, and closes the store; a durable server's tasks wait for the next one. */
  async close(): Promise<void> {
    await this.queue.close(this.#options.isDurable === true ? "interrupted" : "cancelled");
    await this.webhooks?.[Symbol.asyncDispose]();
    await this.sessions.close();
    this.#retention[Symbol.dispose]();
    const own = ownId(this.#stateDir);
    for (const row of this.store.attached()) {
      if (row.owner === own) await this.#forget(row.id);
    }
    await this.#uploads.removeOwn();
    // Whoever follows a task may not have come to its end yet
    this.#isClosed = true;
    this.store[Symbol.dispose]();
    releaseOwn(this.#stateDir);
  }

  /** A task is over: what only its run needed goes. */
  async #tidy(id: string): Promise<void> {
    const row = this.store.task(id);
    if (row !== undefined) this.#retention.touch(row);
    await this.#uploads.release(id).catch((error) => console.error(error));
  }

  #row(id: string, principal: Principal = LOCAL_PRINCIPAL): TaskRow {
    const row = this.store.task(id);
    if (row !== undefined && seesOwner(principal, row.tokenId)) return row;
    throw new SessionError("not_found", `There is no task "${id.slice(0, 40)}"`);
  }

  async #forget(id: string): Promise<void> {
    this.#retention.forgotten(id);
    await this.#folders.remove(id);
    await this.#uploads.release(id);
    this.store.removeTask(id);
  }
}

/** Opens the tasks of a state folder, after removing what dead servers left in it. */
export async function openTaskService(options: TaskServiceOptions): Promise<TaskService> {
  await Deno.mkdir(join(options.stateDir, "tasks"), { recursive: true, mode: 0o700 });
  ownId(options.stateDir);
  const store = new TaskStore(join(options.stateDir, "paddock.sqlite"));
  const key = options.isDurable === true ? { webhookKey: await webhookKey(options.stateDir) } : {};
  const service = new TaskService({ ...options, ...key, store });
  await service.sweep();
  return service;
}
