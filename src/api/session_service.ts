/**
 * The sessions of one server: those that tasks run in, which others may enter meanwhile, those that were kept, and those
 * that were asked for as such. The latter two go on until somebody stops or removes them, or their time is over.
 *
 * @module
 */

import { join } from "node:path";
import { findAgent } from "../session/agents.ts";
import { isExpired, type KeptFacts, KeptSessions } from "../session/kept_sessions.ts";
import { SessionError } from "../session/session_error.ts";
import type { HeldSession, NetworkLog, SessionHolder } from "../session/session_holder.ts";
import { taskPolicy } from "../session/task_policy.ts";
import type { VmEnd } from "../session/vm_end.ts";
import { LiveSession, toView, withoutVm } from "./live_session.ts";
import { LOCAL_PRINCIPAL, type Principal, seesOwner } from "./principal.ts";
import type { SessionSubmission, SessionView } from "./session_schemas.ts";
import {
  bootLive,
  causeOf,
  failureOf,
  newFacts,
  type SessionMaking,
  type StartingSession,
  type StartOptions,
} from "./session_start.ts";

/** Options of {@linkcode SessionService}. */
export interface SessionServiceOptions extends SessionMaking {
  /** Makes sure that there is room for one more VM, and that whoever asks may have it. @throws {SessionError} */
  readonly requireRoom: (memoryMib: number, principal: Principal) => void;
  /** Moves an upload of a token's to a path. @throws {SessionError} when there is none of this id */
  readonly takeUpload: (id: string, tokenId: string, path: string) => Promise<void>;
}

/** The sessions of one server. */
export class SessionService implements SessionHolder {
  readonly #options: SessionServiceOptions;
  readonly #kept: KeptSessions;
  readonly #live = new Map<string, LiveSession>();
  readonly #starting = new Map<string, StartingSession>();
  readonly #endings = new Map<string, Promise<void>>();
  readonly #expiries = new Map<string, ReturnType<typeof setTimeout>>();
  /** told of the end of each VM that came up */
  onVmEnd: (end: VmEnd) => void = () => {};

  constructor(options: SessionServiceOptions) {
    this.#options = options;
    this.#kept = new KeptSessions(options.stateDir);
  }

  /** sessions that are no task's and have a VM, or are about to */
  get keptCount(): number {
    const kept = this.#live.values().filter(({ keptLog }) => keptLog !== undefined).toArray();
    return kept.length + this.#starting.size;
  }

  /** how many of these are a token's */
  countOf(tokenId: string): number {
    const kept = this.#live.values().filter(({ keptLog }) => keptLog !== undefined).map(({ facts }) => facts);
    const starting = this.#starting.values().map(({ facts }) => facts);
    return [...kept, ...starting].filter((facts) => facts.tokenId === tokenId).length;
  }

  /** RAM of these VMs, in `MiB` */
  get keptMemoryMib(): number {
    const kept = this.#live.values().filter(({ keptLog }) => keptLog !== undefined).toArray();
    return [...kept, ...this.#starting.values()].reduce((sum, { facts }) => sum + facts.memoryMib, 0);
  }

  /** Removes what dead servers left and nobody can use. */
  async sweep(): Promise<void> {
    await this.#kept.sweep();
    for (const facts of await this.#kept.list()) if (facts.owner === undefined) this.#expireAt(facts);
  }

  /** See {@linkcode SessionHolder}. */
  add(held: HeldSession): Disposable {
    const { id } = held.session;
    this.#live.set(id, new LiveSession(held));
    void held.session.ended.then((end) => this.onVmEnd(end));
    return { [Symbol.dispose]: () => void this.#live.delete(id) };
  }

  /** See {@linkcode SessionHolder}. */
  async keep(id: string): Promise<NetworkLog> {
    const live = this.#live.get(id);
    if (live === undefined) throw notFound(id);
    await this.#kept.reserve(live.facts);
    return await this.#adopt(live, this.#kept.openLog(id, live.held.policy));
  }

  /** Takes a request for a session and begins to boot it. */
  async create(submission: SessionSubmission, principal: Principal): Promise<SessionView> {
    const spec = findAgent(submission.agent);
    if (spec === undefined) throw new SessionError("config", `There is no agent "${submission.agent}"`);
    const { uploadId, env } = submission;
    const policy = taskPolicy(submission);
    const facts = newFacts(submission, { spec, tokenId: principal.tokenId });
    const { id } = facts;
    this.#options.requireRoom(facts.memoryMib, principal);
    // From here on it counts
    const starting: StartingSession = { facts, abort: new AbortController(), over: Promise.resolve() };
    this.#starting.set(id, starting);
    const workspaceTar = uploadId === undefined ? undefined : join(this.#kept.folder(id), "upload.tar");
    try {
      await this.#kept.reserve(facts);
      if (uploadId !== undefined) {
        await this.#options.takeUpload(uploadId, principal.tokenId, workspaceTar ?? "");
      }
    } catch (error) {
      this.#starting.delete(id);
      await this.#kept.remove(id);
      throw error;
    }
    this.#expireAt(facts);
    starting.over = this.#start(starting, { spec, policy, env, workspaceTar })
      .catch((error) => console.error(error))
      .finally(() => this.#starting.delete(id));
    return await this.view(id);
  }

  /** Sessions that somebody sees: those with a VM first, then those that are stopped. */
  async list(principal: Principal): Promise<SessionView[]> {
    const isSeen = ({ tokenId }: KeptFacts): boolean =>
      seesOwner(principal, tokenId ?? LOCAL_PRINCIPAL.tokenId);
    const live = [...this.#live.values()].filter(({ facts }) => isSeen(facts)).map(({ view }) => view);
    const starting = [...this.#starting.values()].filter(({ facts }) =>
      isSeen(facts) && !this.#live.has(facts.id)
    ).map(({ facts }) => toView(facts, { state: "starting", isKept: true }));
    const others = (await this.#kept.list()).filter((facts) =>
      isSeen(facts) && !this.#live.has(facts.id) && !this.#starting.has(facts.id)
    );
    return [...starting, ...live, ...others.map(withoutVm)];
  }

  /** One session. */
  async view(id: string): Promise<SessionView> {
    const live = this.#live.get(id);
    if (live !== undefined) return live.view;
    const starting = this.#starting.get(id);
    if (starting !== undefined) return toView(starting.facts, { state: "starting", isKept: true });
    const facts = await this.#kept.facts(id);
    if (facts === undefined || isExpired(facts)) throw notFound(id);
    return withoutVm(facts);
  }

  /** @throws {SessionError} when there is no such session, or it is not for this principal to see */
  async requireSeen(id: string, principal: Principal): Promise<void> {
    const facts = this.#live.get(id)?.facts ?? this.#starting.get(id)?.facts ?? await this.#kept.facts(id);
    if (facts === undefined || !seesOwner(principal, facts.tokenId ?? LOCAL_PRINCIPAL.tokenId)) {
      throw notFound(id);
    }
  }

  /** A session that can be entered. @throws {SessionError} when it cannot */
  async running(id: string): Promise<LiveSession> {
    const live = this.#live.get(id);
    if (live !== undefined) return live;
    const { state } = await this.view(id);
    const why = state === "starting" ? "is starting: wait until it runs" : `is ${state}: its VM is gone`;
    throw new SessionError("conflict", `Session "${id}" ${why}`);
  }

  /** Sets when a session is removed: so long after now. */
  async setTtl(id: string, ttlMs: number): Promise<SessionView> {
    const { isKept } = await this.view(id);
    const expiresAt = new Date(Date.now() + ttlMs).toISOString();
    const live = this.#live.get(id);
    const starting = this.#starting.get(id);
    if (live !== undefined) live.requireKept();
    const before = live?.facts ?? starting?.facts ?? await this.#kept.facts(id);
    if (before === undefined || !isKept) throw notFound(id);
    const facts = { ...before, expiresAt };
    await this.#kept.update(facts, { isRun: live !== undefined || starting !== undefined });
    if (live !== undefined) live.facts = facts;
    if (starting !== undefined) starting.facts = facts;
    this.#expireAt(facts);
    return await this.view(id);
  }

  /** Stops a session's vCPUs, or lets them go on. */
  async setPaused(id: string, isPaused: boolean): Promise<SessionView> {
    const live = await this.running(id);
    live.requireKept();
    await live.setPaused(isPaused);
    return live.view;
  }

  /** The end of a guest's serial output. */
  async console(id: string): Promise<string> {
    await this.view(id);
    return this.#live.get(id)?.held.session.consoleText ?? await this.#kept.console(id);
  }

  /** Path of what a session's network did since it is kept. */
  async networkJournal(id: string): Promise<string> {
    const { isKept } = await this.view(id);
    if (isKept) return this.#kept.networkPath(id);
    throw new SessionError("conflict", "Session is not kept: its task has its network journal");
  }

  /** Powers a session off; its disk stays. */
  async stop(id: string): Promise<SessionView> {
    const { state } = await this.view(id);
    if (state === "stopped" || state === "failed") return await this.view(id);
    const live = await this.running(id);
    live.requireKept();
    await live.setPaused(false);
    const end = await live.held.session.powerOff();
    await this.#end(live, end);
    return await this.view(id);
  }

  /** Ends a session at once, and removes all of it. */
  async remove(id: string): Promise<void> {
    await this.view(id);
    const starting = this.#starting.get(id);
    starting?.abort.abort();
    await starting?.over;
    const live = this.#live.get(id);
    if (live !== undefined) {
      live.requireKept();
      await this.#end(live);
    } else await this.#endings.get(id);
    clearTimeout(this.#expiries.get(id));
    this.#expiries.delete(id);
    await this.#kept.remove(id);
  }

  /** Powers all kept sessions off. */
  async close(): Promise<void> {
    for (const timer of this.#expiries.values()) clearTimeout(timer);
    const starting = [...this.#starting.keys()];
    await Promise.all(starting.map((id) => this.remove(id)));
    const kept = [...this.#live.values()].filter(({ keptLog }) => keptLog !== undefined);
    await Promise.all(kept.map(({ id }) => this.stop(id)));
    await Promise.all(this.#endings.values());
    for (const timer of this.#expiries.values()) clearTimeout(timer);
  }

  async #start(starting: StartingSession, options: StartOptions): Promise<void> {
    const { id } = starting.facts;
    const log = this.#kept.openLog(id, options.policy);
    try {
      await using stack = new AsyncDisposableStack();
      const live = await bootLive(starting, { ...this.#options, ...options, networkLog: log });
      const { session } = live.held;
      stack.use(session);
      void session.ended.then((end) => this.onVmEnd(end));
      await this.#adopt(live, log);
      stack.move();
    } catch (error) {
      log.close();
      // Whoever gave it up removes what is left of it
      if (!starting.abort.signal.aborted) {
        await this.#kept.update({ ...starting.facts, failure: causeOf(error) }, { isRun: false });
      }
    }
  }

  /** The session is this server's from now on. */
  async #adopt(live: LiveSession, log: NetworkLog): Promise<NetworkLog> {
    const { session } = live.held;
    await this.#kept.takeDisk(session);
    await this.#kept.update(live.facts, { isRun: true });
    live.keptLog = log;
    this.#live.set(live.id, live);
    // What could not be given back the next start removes
    void session.ended.then((end) => this.#end(live, end)).catch((error) => console.error(error));
    return log;
  }

  /** The VM of a session is gone, or is to go: what is not its disk goes with it. */
  async #end(live: LiveSession, end?: VmEnd): Promise<void> {
    const { id } = live;
    // Whoever comes first says why
    if (this.#live.get(id) === live && !this.#endings.has(id)) {
      const ending = this.#giveBack(live, end).finally(() => this.#endings.delete(id));
      this.#endings.set(id, ending);
    }
    await this.#endings.get(id);
  }

  async #giveBack(live: LiveSession, end: VmEnd | undefined): Promise<void> {
    const { id, held: { session } } = live;
    await this.#kept.update({ ...live.facts, ...failureOf(end) }, { isRun: false });
    this.#live.delete(id);
    await live.attached.disposeAsync();
    await this.#kept.saveConsole(id, session.consoleText);
    await session[Symbol.asyncDispose]();
    live.keptLog?.close();
  }

  #expireAt({ id, expiresAt }: KeptFacts): void {
    clearTimeout(this.#expiries.get(id));
    if (expiresAt === undefined) return;
    const timer = setTimeout(() => {
      this.remove(id).catch((error) => {
        if (!(error instanceof SessionError && error.code === "not_found")) console.error(error);
      });
    }, Math.max(0, Date.parse(expiresAt) - Date.now()));
    this.#expiries.set(id, timer);
  }
}

function notFound(id: string): SessionError {
  return new SessionError("not_found", `There is no session "${id.slice(0, 40)}"`);
}
