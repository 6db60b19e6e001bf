/**
 * The tasks of one server: takes them, runs them, keeps their events and files, forgets them. HTTP is one way
 * to it (`app.ts`).
 *
 * @module
 */

import { join } from "node:path";
import type { CredentialHeader } from "../../agent-images/agent_login.ts";
import type { AgentModel } from "../../agent-images/agent_spec.ts";
import { findAgent } from "../session/agents.ts";
import { isAlive, ownId, releaseOwn, sweepOwners } from "../session/owner.ts";
import { newSessionId, sweepStale } from "../session/record.ts";
import { keyHeaders, ModelCredentials } from "../session/model_access.ts";
import { runTask, type RunTaskOptions } from "../session/run_task.ts";
import { SessionError } from "../session/session_error.ts";
import { lostResult, type TaskEvent, type TaskRequest, type TaskResult } from "../session/task.ts";
import { TASK_FILES } from "../session/task_files.ts";
import { taskBudget, taskPolicy } from "../session/task_policy.ts";
import { type EventRow, type TaskRow, TaskStore } from "../store/task_store.ts";
import { LiveTask } from "./live_task.ts";
import { type Submission, type TaskView, toTaskRequest } from "./schemas.ts";
import { SessionService } from "./session_service.ts";
import { UploadFolder } from "./upload_folder.ts";

/** Tasks at once: each is a VM, and the host has only so much memory. */
const MAX_RUNNING_TASKS = 8;
const EVENT_PAGE_SIZE = 200;
/** Longest silence of a task's events, in `ms`. */
const KEEP_ALIVE_MS = 5000;
/** How long an attached task that is over waits to be asked for, in `ms`: whoever followed it fetches its files. */
const ATTACHED_RETENTION_MS = 20_000;

/** How a task may be run: replaced in tests. */
export type TaskRunner = typeof runTask;

/** Options of {@linkcode openTaskService}. */
export interface TaskServiceOptions {
  readonly stateDir: string;
  /** what runs a task (default: a VM) */
  readonly runner?: TaskRunner;
  /** what makes the image (default: the one for the agent, built where it is missing) */
  readonly prepare?: RunTaskOptions["prepare"];
}

function credentialsOf(
  { apiKey, modelHeaders }: Submission,
  model: AgentModel | undefined,
): ModelCredentials {
  const isKeyUsed = apiKey !== undefined && model !== undefined;
  return new ModelCredentials(modelHeaders ?? (isKeyUsed ? keyHeaders(model, apiKey) : []));
}

function toView(row: TaskRow): TaskView {
  return {
    id: row.id,
    status: row.status,
    request: JSON.parse(row.request) as TaskRequest,
    result: row.result === null ? null : JSON.parse(row.result) as TaskResult,
    createdAt: row.createdAt,
    endedAt: row.endedAt,
  };
}

/** The tasks of one server. */
export class TaskService {
  /** the sessions that its tasks run in, and those that were kept */
  readonly sessions: SessionService;
  readonly #stateDir: string;
  readonly #store: TaskStore;
  readonly #uploads: UploadFolder;
  readonly #runner: TaskRunner;
  readonly #prepare: RunTaskOptions["prepare"];
  readonly #live = new Map<string, LiveTask>();
  readonly #retention = new Map<string, ReturnType<typeof setTimeout>>();

  /** Use {@linkcode openTaskService}. */
  constructor(options: TaskServiceOptions & { readonly store: TaskStore }) {
    this.#stateDir = options.stateDir;
    this.#store = options.store;
    this.#runner = options.runner ?? runTask;
    this.#prepare = options.prepare;
    this.#uploads = new UploadFolder(options.stateDir, options.store);
    this.sessions = new SessionService(options.stateDir);
  }

  /** tasks that are not over, and kept sessions that run */
  get activeCount(): number {
    return this.#live.size + this.sessions.keptCount;
  }

  /** Removes what dead servers left: sessions, uploads, attached tasks, files without a task. */
  async sweep(): Promise<void> {
    await sweepStale(this.#stateDir);
    await this.#uploads.sweep();
    await this.sessions.sweep();
    for (const row of this.#store.tasks()) {
      if (isAlive(this.#stateDir, row.owner)) continue;
      if (row.attached) await this.#forget(row.id);
      else if (row.status === "running") {
        const result = lostResult("Server ended while the task ran");
        this.#store.addEvent(row.id, JSON.stringify({ type: "result", result } satisfies TaskEvent));
        this.#store.endTask(row.id, JSON.stringify(result));
      }
    }
    await this.#sweepFolders();
    sweepOwners(this.#stateDir);
  }

  /** Stores an archive for a later task. */
  async upload(content: ReadableStream<Uint8Array> | null): Promise<{ id: string; sizeBytes: number }> {
    return await this.#uploads.add(content);
  }

  /** Takes a task and starts it. */
  async submit(submission: Submission): Promise<TaskView> {
    const spec = findAgent(submission.agent);
    if (spec === undefined) throw new SessionError("config", `There is no agent "${submission.agent}"`);
    if (this.activeCount >= MAX_RUNNING_TASKS) {
      const what = `${MAX_RUNNING_TASKS} VMs of tasks and kept sessions are running already`;
      throw new SessionError("limit_reached", `${what}: wait, or stop a session`);
    }
    const { uploadId } = submission;
    const id = newSessionId();
    const folder = this.#folder(id);
    const request = toTaskRequest(submission);
    taskPolicy(request);
    taskBudget(request, spec.model);
    const live = new LiveTask(submission.attached, credentialsOf(submission, spec.model));
    this.#store.addTask({
      id,
      request: JSON.stringify(request),
      owner: ownId(this.#stateDir),
      attached: submission.attached,
    });
    this.#live.set(id, live);
    try {
      await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
      const workspaceTar = join(folder, "upload.tar");
      if (uploadId !== undefined) await this.#uploads.take(uploadId, workspaceTar);
      live.over = this.#run(id, {
        id,
        request,
        spec,
        stateDir: this.#stateDir,
        folder,
        workspaceTar: uploadId === undefined ? undefined : workspaceTar,
        credentials: live.credentials,
        prepare: this.#prepare,
        sessions: this.sessions,
        signal: live.signal,
        onEvent: (event) => this.#addEvent(id, event),
      });
    } catch (error) {
      live.finish();
      this.#live.delete(id);
      await this.#forget(id);
      throw error;
    }
    return this.view(id);
  }

  /** A task as it is now. */
  view(id: string): TaskView {
    const row = this.#row(id);
    this.#retain(id);
    return toView(row);
  }

  /** All tasks, newest first. */
  list(): TaskView[] {
    return this.#store.tasks().map(toView);
  }

  /**
   * Events of a task after a position, as they come; ends after the last one. Gives undefined when nothing
   * came for a while, so that a broken connection is noticed.
   */
  async *follow(id: string, afterSeq: number, signal: AbortSignal): AsyncGenerator<EventRow | undefined> {
    this.#row(id);
    const live = this.#live.get(id);
    using _ = live?.follow();
    let seq = afterSeq;
    while (!signal.aborted) {
      const isOver = !this.#live.has(id);
      const rows = this.#store.events(id, seq, EVENT_PAGE_SIZE);
      for (const row of rows) {
        yield row;
        seq = row.seq;
      }
      if (rows.length > 0) continue;
      if (isOver || live === undefined) return;
      if (!await live.wait(KEEP_ALIVE_MS, signal)) yield undefined;
    }
  }

  /** Path of one of a task's files. */
  async file(id: string, kind: keyof typeof TASK_FILES): Promise<string> {
    const { status } = this.#row(id);
    this.#retain(id);
    if (status === "running") throw new SessionError("conflict", "Task is not over yet");
    const path = join(this.#folder(id), TASK_FILES[kind]);
    try {
      await Deno.stat(path);
    } catch (cause) {
      throw new SessionError("not_found", `Task has no ${TASK_FILES[kind]}`, { cause });
    }
    return path;
  }

  /** Replaces what a running task's requests to its model's API carry. */
  renewCredentials(id: string, headers: readonly CredentialHeader[]): void {
    this.#row(id);
    const live = this.#live.get(id);
    if (live === undefined) throw new SessionError("conflict", "Task is over");
    live.credentials.renew(headers);
  }

  /** Ends a task; one that is over stays as it is. */
  cancel(id: string): TaskView {
    const view = this.view(id);
    this.#live.get(id)?.cancel();
    return view;
  }

  /** Ends a task if need be, and forgets it with its files. */
  async remove(id: string): Promise<void> {
    this.#row(id);
    const live = this.#live.get(id);
    live?.cancel();
    await live?.over;
    await this.#forget(id);
  }

  /** Ends all tasks, forgets the attached ones, and closes the store. */
  async close(): Promise<void> {
    for (const live of this.#live.values()) live.cancel();
    await Promise.all(Array.from(this.#live.values(), (live) => live.over));
    await this.sessions.close();
    for (const timer of this.#retention.values()) clearTimeout(timer);
    const own = ownId(this.#stateDir);
    for (const row of this.#store.tasks()) {
      if (row.attached && row.owner === own) await this.#forget(row.id);
    }
    await this.#uploads.removeOwn();
    this.#store[Symbol.dispose]();
    releaseOwn(this.#stateDir);
  }

  async #run(id: string, options: Parameters<TaskRunner>[0]): Promise<void> {
    const result = await this.#runner(options).catch((error) =>
      lostResult(error instanceof Error ? error.message : String(error))
    );
    await Deno.remove(join(options.folder, "upload.tar")).catch(() => {/* there was no upload */});
    this.#addEvent(id, { type: "result", result });
    this.#store.endTask(id, JSON.stringify(result));
    const live = this.#live.get(id);
    this.#live.delete(id);
    live?.finish();
    this.#retain(id);
  }

  /** Starts the time anew after which an attached task that is over is forgotten. */
  #retain(id: string): void {
    const row = this.#store.task(id);
    if (row?.attached !== true || row.status !== "ended" || row.owner !== ownId(this.#stateDir)) return;
    clearTimeout(this.#retention.get(id));
    this.#retention.set(id, setTimeout(() => void this.#forget(id), ATTACHED_RETENTION_MS));
  }

  #addEvent(id: string, event: TaskEvent): void {
    this.#store.addEvent(id, JSON.stringify(event));
    this.#live.get(id)?.wake();
  }

  #row(id: string): TaskRow {
    const row = this.#store.task(id);
    if (row === undefined) throw new SessionError("not_found", `There is no task "${id.slice(0, 40)}"`);
    return row;
  }

  #folder(id: string): string {
    return join(this.#stateDir, "tasks", id);
  }

  async #forget(id: string): Promise<void> {
    clearTimeout(this.#retention.get(id));
    this.#retention.delete(id);
    await Deno.remove(this.#folder(id), { recursive: true }).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    this.#store.removeTask(id);
  }

  async #sweepFolders(): Promise<void> {
    for (const entry of Array.from(Deno.readDirSync(join(this.#stateDir, "tasks")))) {
      if (this.#store.task(entry.name) === undefined) {
        await Deno.remove(join(this.#stateDir, "tasks", entry.name), { recursive: true });
      }
    }
  }
}

/** Opens the tasks of a state folder, after removing what dead servers left in it. */
export async function openTaskService(options: TaskServiceOptions): Promise<TaskService> {
  await Deno.mkdir(join(options.stateDir, "tasks"), { recursive: true, mode: 0o700 });
  ownId(options.stateDir);
  const store = new TaskStore(join(options.stateDir, "paddock.sqlite"));
  const service = new TaskService({ ...options, store });
  await service.sweep();
  return service;
}
