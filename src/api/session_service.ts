/**
 * The sessions of one server: those that tasks run in, which others may enter meanwhile, and those that were kept and
 * go on until somebody stops or removes them.
 *
 * @module
 */

import { AGENT_ENV } from "../../agent-images/agent_spec.ts";
import type { GuestCommand, GuestProcess, GuestStream } from "../session/guest_client.ts";
import { KeptSessions } from "../session/kept_sessions.ts";
import { GATEWAY_URL } from "../session/session.ts";
import { SessionError } from "../session/session_error.ts";
import type { HeldSession, NetworkLog, SessionHolder } from "../session/session_holder.ts";
import type { ExecSubmission, SessionView } from "./schemas.ts";

/** Largest archive that is read from a guest, in bytes. */
const MAX_ARCHIVE_BYTES = 64 * 1024 ** 3;
/** Users that commands may run as, with their home folders. */
const HOMES = { agent: "/home/agent", root: "/root" } as const;

interface LiveSession extends HeldSession {
  keptLog: NetworkLog | undefined;
}

/** Where a command's output goes. */
export type ExecOutput = Pick<GuestCommand, "onStdout" | "onStderr">;

/** The sessions of one server. */
export class SessionService implements SessionHolder {
  readonly #kept: KeptSessions;
  readonly #live = new Map<string, LiveSession>();
  readonly #closing = new Set<Promise<void>>();

  constructor(stateDir: string) {
    this.#kept = new KeptSessions(stateDir);
  }

  /** kept sessions whose VM runs */
  get keptCount(): number {
    return this.#live.values().filter(({ keptLog }) => keptLog !== undefined).toArray().length;
  }

  /** RAM of kept sessions whose VM runs, in `MiB` */
  get keptMemoryMib(): number {
    return this.#live.values().filter(({ keptLog }) => keptLog !== undefined)
      .reduce((sum, { facts }) => sum + facts.memoryMib, 0);
  }

  /** Removes what dead servers left half kept. */
  async sweep(): Promise<void> {
    await this.#kept.sweep((id) => this.#live.has(id));
  }

  /** See {@linkcode SessionHolder}. */
  add(held: HeldSession): Disposable {
    const { id } = held.session;
    this.#live.set(id, { ...held, keptLog: undefined });
    return { [Symbol.dispose]: () => void this.#live.delete(id) };
  }

  /** See {@linkcode SessionHolder}. */
  async keep(id: string): Promise<NetworkLog> {
    const live = this.#requireLive(id);
    const log = await this.#kept.take(live.session, live.facts, live.policy);
    live.keptLog = log;
    // What could not be given back the next start removes
    void live.session.ended.then(() => this.#end(live)).catch((error) => console.error(error));
    return log;
  }

  /** All sessions: those with a VM first, then those that are stopped. */
  async list(): Promise<SessionView[]> {
    const live = [...this.#live.values()].map(toView);
    const stopped = (await this.#kept.list()).filter(({ id }) => !this.#live.has(id));
    return [...live, ...stopped.map((facts): SessionView => ({ ...publicFacts(facts), state: "stopped" }))];
  }

  /** One session. */
  async view(id: string): Promise<SessionView> {
    const live = this.#live.get(id);
    if (live !== undefined) return toView(live);
    const facts = await this.#kept.facts(id);
    if (facts === undefined) throw notFound(id);
    return { ...publicFacts(facts), state: "stopped" };
  }

  /** Starts a command in a session. */
  async exec(id: string, request: ExecSubmission, output: ExecOutput): Promise<GuestProcess> {
    const { session, spec, terminal: waiting } = await this.#requireRunning(id);
    const { terminal, user } = request;
    if (request.agent) {
      if (waiting === undefined) throw new SessionError("conflict", "No agent waits for a terminal here");
      if (terminal === undefined) {
        throw new SessionError("config", "An agent needs a terminal: give its size");
      }
      return await waiting.start({ ...output, terminal });
    }
    // With the variables of its agent, so that this can be started by hand
    const { env } = spec.interactive({ gatewayUrl: GATEWAY_URL, timeoutMs: 0 });
    return await session.guest.exec({
      ...output,
      argv: request.argv,
      env: {
        ...AGENT_ENV,
        ...env,
        HOME: HOMES[user],
        USER: user,
        LOGNAME: user,
        ...(terminal === undefined ? {} : { TERM: "xterm-256color" }),
        ...request.env,
      },
      cwd: request.cwd,
      user,
      stdin: request.stdin,
      terminal,
    });
  }

  /** Connects to a TCP port of a session's guest. */
  async connect(id: string, port: number): Promise<GuestStream> {
    return await (await this.#requireRunning(id)).session.guest.connect(port);
  }

  /** A file or the content of a folder of a session's guest, as a tar stream. */
  async readFiles(id: string, path: string): Promise<AsyncGenerator<Uint8Array>> {
    return (await this.#requireRunning(id)).session.guest.get(path, MAX_ARCHIVE_BYTES);
  }

  /** Unpacks a tar stream into a folder of a session's guest; all of it belongs to the agent. */
  async writeFiles(id: string, path: string, tar: AsyncIterable<Uint8Array>): Promise<void> {
    await (await this.#requireRunning(id)).session.guest.put(tar, { path, uid: 1000, gid: 1000 });
  }

  /** The end of a guest's serial output. */
  async console(id: string): Promise<string> {
    await this.view(id);
    return this.#live.get(id)?.session.consoleText ?? await this.#kept.console(id);
  }

  /** Path of what a session's network did since it is kept. */
  async networkJournal(id: string): Promise<string> {
    await this.view(id);
    if (await this.#kept.facts(id) !== undefined) return this.#kept.networkPath(id);
    throw new SessionError("conflict", "Session is not kept: its task has its network journal");
  }

  /** Powers a kept session off; its disk stays. */
  async stop(id: string): Promise<SessionView> {
    const live = this.#live.get(id);
    if (live !== undefined) {
      requireKept(live);
      await live.session.powerOff();
      await this.#end(live);
    }
    return await this.view(id);
  }

  /** Ends a kept session at once, and removes its disk. */
  async remove(id: string): Promise<void> {
    const live = this.#live.get(id);
    if (live !== undefined) {
      requireKept(live);
      await this.#end(live);
    }
    await this.view(id);
    await this.#kept.remove(id);
  }

  /** Powers all kept sessions off. */
  async close(): Promise<void> {
    const kept = [...this.#live.values()].filter(({ keptLog }) => keptLog !== undefined);
    await Promise.all(kept.map(({ session }) => this.stop(session.id)));
    await Promise.all(this.#closing);
  }

  /** The VM of a kept session is gone, or is to go: what is not its disk goes with it. */
  async #end(live: LiveSession): Promise<void> {
    const { session } = live;
    if (this.#live.delete(session.id)) {
      const ending = (async (): Promise<void> => {
        await this.#kept.saveConsole(session.id, session.consoleText);
        await session[Symbol.asyncDispose]();
        live.keptLog?.close();
      })();
      this.#closing.add(ending);
      void ending.finally(() => this.#closing.delete(ending)).catch(() => {/* awaited by its callers */});
    }
    await Promise.all(this.#closing);
  }

  #requireLive(id: string): LiveSession {
    const live = this.#live.get(id);
    if (live === undefined) throw notFound(id);
    return live;
  }

  async #requireRunning(id: string): Promise<LiveSession> {
    const { state } = await this.view(id);
    if (state === "running") return this.#requireLive(id);
    throw new SessionError("conflict", `Session "${id}" is stopped: its disk is there, its VM is gone`);
  }
}

function notFound(id: string): SessionError {
  return new SessionError("not_found", `There is no session "${id.slice(0, 40)}"`);
}

function requireKept({ keptLog, session }: LiveSession): void {
  if (keptLog !== undefined) return;
  throw new SessionError("conflict", `A task runs in session "${session.id}": cancel the task instead`);
}

function publicFacts(facts: HeldSession["facts"]): Omit<SessionView, "state"> {
  const { id, agent, memoryMib, cpus, createdAt } = facts;
  return { id, agent, memoryMib, cpus, createdAt, isKept: true };
}

function toView({ facts, keptLog }: LiveSession): SessionView {
  return { ...publicFacts(facts), isKept: keptLog !== undefined, state: "running" };
}
