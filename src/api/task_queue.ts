/**
 * Runs the tasks of one server: each waits for its turn and for a VM's worth of room, runs, and is tried anew where it
 * may be. What it needs to know is in the store, so that another server can go on where this one ended.
 *
 * @module
 */

import { join } from "node:path";
import { findAgent } from "../session/agents.ts";
import { SessionError } from "../session/session_error.ts";
import type { ModelCredentials } from "../session/model_access.ts";
import { isAlive, ownId } from "../session/owner.ts";
import { settlesWithin } from "../session/settles_within.ts";
import { lostResult, type TaskResult } from "../session/task.ts";
import type { TaskState } from "../store/task_state.ts";
import type { StateChange, TaskRow, TaskStore } from "../store/task_store.ts";
import { LiveTask } from "./live_task.ts";
import { eventBody, type QueueListener, STATE_OF, type TaskQueueOptions } from "./queue_options.ts";
import type { ServiceEvent, StoredRequest } from "./schemas.ts";

/** Pause before what could not be stored is tried again, in `ms`. */
const STORE_RETRY_MS = 1000;
/** How often those who wait are looked at, beside the moments when something ends, in `ms`. */
const LOOK_MS = 1000;
const SERVER_ENDED = "Server ended while the task ran";
const KEY_IS_GONE = "Server ended before the task's turn, and with it the task's own key: submit it again";

/** The tasks that a server runs. */
export class TaskQueue {
  readonly #options: TaskQueueOptions;
  readonly #store: TaskStore;
  readonly #live = new Map<string, LiveTask>();
  readonly #memoryMib = new Map<string, number>();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #listeners = new Set<QueueListener>();
  #isClosing = false;

  constructor(options: TaskQueueOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#timer = setInterval(() => this.dispatch(), LOOK_MS);
    Deno.unrefTimer(this.#timer);
  }

  /** tasks that are not over */
  get size(): number {
    return this.#live.size;
  }

  /** tasks that run */
  get runningCount(): number {
    return this.#memoryMib.size;
  }

  /** RAM of tasks that run, in `MiB` */
  get memoryMib(): number {
    return this.#memoryMib.values().reduce((sum, mib) => sum + mib, 0);
  }

  /** whether a task of this size could run at once */
  hasRoom(memoryMib: number): boolean {
    const { limits: { maxVms, maxMemoryMib }, sessions } = this.#options;
    const usedMib = this.memoryMib + sessions.keptMemoryMib;
    return this.runningCount + sessions.keptCount < maxVms && usedMib + memoryMib <= maxMemoryMib;
  }

  /** @throws {SessionError} unless a VM of this size could run at once */
  requireRoom(memoryMib: number): void {
    if (this.hasRoom(memoryMib)) return;
    const what =
      `${this.#options.limits.maxVms} VMs of tasks and sessions, or all memory for them, are in use`;
    throw new SessionError("limit_reached", `${what}: wait, or stop a session`);
  }

  /** it starts no more tasks */
  get isClosing(): boolean {
    return this.#isClosing;
  }

  /** Tells somebody of all events from now on, after they are stored. */
  listen(listener: QueueListener): void {
    this.#listeners.add(listener);
  }

  /** A task that this process has and that is not over. */
  live(id: string): LiveTask | undefined {
    return this.#live.get(id);
  }

  /** Takes a task that the store has as queued. */
  add(row: Pick<TaskRow, "id" | "attached">, credentials: ModelCredentials): void {
    const live = new LiveTask(row.attached, credentials);
    live.onAbandoned = () => this.cancel(row.id);
    this.#live.set(row.id, live);
    this.dispatch();
  }

  /** Adds an event to a task's. */
  addEvent(id: string, event: ServiceEvent): void {
    this.#store.events.add(id, eventBody(event));
    this.#tell(id, event);
  }

  /** Starts what may start now. */
  dispatch(): void {
    while (!this.#isClosing) {
      const row = this.#store.next(ownId(this.#options.stateDir));
      // Whose turn it is waits for room: smaller ones that went past it could keep it waiting for ever
      if (row === undefined || !this.hasRoom(row.memoryMib)) return;
      const live = this.#live.get(row.id);
      if (live === undefined) return;
      this.#store.tookTurn(row.tokenId);
      if (!this.#become(row.id, "preparing")) continue;
      this.#memoryMib.set(row.id, row.memoryMib);
      live.run = this.#run({ ...row, attempt: row.attempt + 1 }, live);
    }
  }

  /** Ends a task; one that is over stays as it is. */
  cancel(id: string): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    live.stop("cancelled");
    if (live.run === undefined) this.#end(id, lostResult("Task was cancelled before its turn", "cancelled"));
  }

  /** Takes over what servers that are gone left: what waited goes on waiting, what ran is tried anew if it may be. */
  recover(): void {
    const { stateDir } = this.#options;
    for (const row of this.#store.unfinished()) {
      if (row.attached || isAlive(stateDir, row.owner)) continue;
      this.#store.adopt(row.id, ownId(stateDir));
      const request = JSON.parse(row.request) as StoredRequest;
      const ran = row.state !== "queued";
      const goesOn = !row.hasOwnKey && (!ran || row.attempt <= row.retry);
      if (goesOn && ran) this.#store.change(...this.#anew(row, "interrupted", SERVER_ENDED));
      if (goesOn) this.add(row, this.#options.credentialsFor(request));
      else this.#end(row.id, lostResult(ran ? SERVER_ENDED : KEY_IS_GONE, "interrupted"));
    }
  }

  /** Starts no more tasks, new ones wait for the next server; settles when those that run are over, or after `limitMs`. */
  async drain(limitMs: number): Promise<void> {
    this.#isClosing = true;
    await settlesWithin(limitMs, Promise.all(Array.from(this.#live.values(), (live) => live.run)));
  }

  /** Ends what runs: `reason` says whether it may be tried anew by the next server. What waits goes on waiting then. */
  async close(reason: "cancelled" | "interrupted"): Promise<void> {
    this.#isClosing = true;
    clearInterval(this.#timer);
    for (const [id, live] of this.#live) {
      if (live.run !== undefined) live.stop(reason);
      else if (reason === "cancelled") this.cancel(id);
    }
    await Promise.all(Array.from(this.#live.values(), (live) => live.run));
    for (const live of this.#live.values()) live.finish();
    this.#live.clear();
  }

  async #run(row: TaskRow, live: LiveTask): Promise<void> {
    const { id } = row;
    const result = await this.#runOnce(row, live).catch((error) =>
      lostResult(error instanceof Error ? error.message : String(error))
    );
    const ended = live.stopReason === "interrupted" && result.outcome === "cancelled"
      ? lostResult(SERVER_ENDED, "interrupted")
      : result;
    const mayRetry = ended.outcome === "host_failed" || ended.outcome === "interrupted";
    const goesOn = mayRetry && live.stopReason !== "cancelled" && row.attempt <= row.retry &&
      !(row.hasOwnKey && this.#isClosing);
    this.#memoryMib.delete(id);
    await this.#stored(() => {
      if (!goesOn) return this.#end(id, ended);
      live.run = undefined;
      this.#store.change(...this.#anew(row, STATE_OF[ended.outcome], ended.cause));
      this.#tell(id, { type: "state", state: "queued" });
    });
    this.dispatch();
  }

  async #runOnce(row: TaskRow, live: LiveTask): Promise<TaskResult> {
    const { stateDir, uploads, folders, sessions, prepare, runner, fetchRepo } = this.#options;
    const { id } = row;
    const { repo, ...request } = JSON.parse(row.request) as StoredRequest;
    const spec = findAgent(request.agent);
    if (spec === undefined) return lostResult(`There is no agent "${request.agent}" any more`);
    const folder = await folders.renew(id);
    if (live.signal.aborted) return lostResult("Task was cancelled", "cancelled");
    const clone = join(folder, "repo.tar");
    const network = repo === undefined
      ? request.network
      : await fetchRepo?.({ ...repo, network: request.network }, clone, live.signal);
    return await runner({
      id,
      request: { ...request, network },
      tokenId: row.tokenId,
      spec,
      stateDir,
      folder,
      workspaceTar: repo === undefined ? uploads.pathOf(id) : clone,
      credentials: live.credentials,
      prepare,
      sessions,
      signal: live.signal,
      onEvent: (event) => {
        this.addEvent(id, event);
        if (event.type === "phase" && event.phase === "prepare") this.#become(id, "running");
      },
    });
  }

  #become(id: string, state: TaskState): boolean {
    const event: ServiceEvent = { type: "state", state };
    const changed = this.#store.change({ id, state, events: [eventBody(event)] });
    if (changed) this.#tell(id, event);
    return changed;
  }

  #tell(id: string, event: ServiceEvent): void {
    this.#live.get(id)?.wake();
    for (const listener of this.#listeners) listener.onEvent(id, event);
  }

  /** The changes that put a task back among those that wait. */
  #anew({ id }: Pick<TaskRow, "id">, state: TaskState, cause: string): [StateChange, StateChange] {
    return [
      { id, state, cause, events: [eventBody({ type: "state", state, cause })] },
      { id, state: "queued", events: [eventBody({ type: "state", state: "queued" })] },
    ];
  }

  /** A task is over: its result, its state and its last events are stored at once. */
  #end(id: string, result: TaskResult): void {
    const state = STATE_OF[result.outcome];
    const { cause } = result;
    this.#store.change({
      id,
      state,
      cause,
      result: JSON.stringify(result),
      events: [eventBody({ type: "state", state, cause }), eventBody({ type: "result", result })],
    });
    const live = this.#live.get(id);
    this.#live.delete(id);
    live?.finish();
    this.#tell(id, { type: "result", result });
    this.#options.onOver(id);
  }

  /** Stores something, however long that takes: a full disk must not lose how a task ended. */
  async #stored(step: () => void): Promise<void> {
    for (;;) {
      try {
        return step();
      } catch (error) {
        console.error("Result cannot be stored, trying again:", error);
        await new Promise((resolve) => setTimeout(resolve, STORE_RETRY_MS));
      }
    }
  }
}
