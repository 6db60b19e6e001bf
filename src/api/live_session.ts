/**
 * A session with a VM, as those see it who may enter it.
 *
 * @module
 */

import { join } from "node:path";
import { AGENT_ENV } from "../../agent-images/agent_spec.ts";
import type { GuestCommand, GuestProcess, GuestStream } from "../session/guest_client.ts";
import {
  type FolderListing,
  type GuestFile,
  listFolder,
  openFile,
  writeFile,
} from "../session/guest_files.ts";
import type { KeptFacts } from "../session/kept_sessions.ts";
import { PortProxy } from "../session/port_proxy.ts";
import { GATEWAY_URL } from "../session/session.ts";
import { SessionError } from "../session/session_error.ts";
import type { HeldSession, NetworkLog } from "../session/session_holder.ts";
import { spoolBody } from "../session/spooled_body.ts";
import { VmAnswerError } from "../session/vmm_process.ts";
import { type AttachedProcess, Terminals, type TerminalView } from "./terminals.ts";
import type { ExecSubmission, SessionView } from "./session_schemas.ts";

/** Largest archive that is read from a guest, in bytes. */
const MAX_ARCHIVE_BYTES = 64 * 1024 ** 3;
/** Largest single file, in bytes. */
export const MAX_FILE_BYTES = 1024 ** 3;
const MAX_PROXIED_PORTS = 32;
/** Users that commands may run as, with their home folders. */
const HOMES = { agent: "/home/agent", root: "/root" } as const;

/** Where a command's output goes. */
export type ExecOutput = Pick<GuestCommand, "onStdout" | "onStderr">;

/** What a command needs to be run. */
export type ExecRequest = Omit<ExecSubmission, "detachable">;

/** A file to write. */
export interface NewFile {
  /** (undefined: it ends where its content does) */
  readonly sizeBytes: number | undefined;
  /** permission bits */
  readonly mode: number;
  readonly content: AsyncIterable<Uint8Array>;
}

/** The facts of a session as its view has them. */
export function toView(
  facts: KeptFacts,
  more: { readonly state: SessionView["state"]; readonly isKept: boolean },
): SessionView {
  const { id, agent, memoryMib, cpus, createdAt, expiresAt = null, labels = {}, failure } = facts;
  const cause = failure === undefined ? {} : { cause: failure };
  return { id, agent, memoryMib, cpus, createdAt, expiresAt, labels, ...more, ...cause };
}

/** A session that has no VM, or no more. */
export function withoutVm(facts: KeptFacts): SessionView {
  return toView(facts, { state: facts.failure === undefined ? "stopped" : "failed", isKept: true });
}

/** One session. */
export class LiveSession {
  readonly held: HeldSession;
  /** what it is known by; replaced when its time changes */
  facts: KeptFacts;
  /** log of its network once it is kept (undefined: it belongs to its task) */
  keptLog: NetworkLog | undefined;
  /** what others made for it, and what is gone before its VM is */
  readonly attached = new AsyncDisposableStack();
  /** commands on terminals that outlive their connections */
  readonly terminals: Terminals = this.attached.use(new Terminals());
  readonly #env: Readonly<Record<string, string>>;
  readonly #proxies = new Map<number, PortProxy>();
  #isPaused = false;
  /** pausing and going on happen one after the other */
  #lastChange: Promise<unknown> = Promise.resolve();

  /** `env`: variables of all commands in it */
  constructor(held: HeldSession, env: Readonly<Record<string, string>> = {}) {
    this.held = held;
    this.facts = held.facts;
    this.#env = env;
  }

  /** its id */
  get id(): string {
    return this.held.session.id;
  }

  /** it as the API shows it */
  get view(): SessionView {
    const state = this.#isPaused ? "paused" : "running";
    return toView(this.facts, { state, isKept: this.keptLog !== undefined });
  }

  /** Starts a command. */
  async exec(request: ExecRequest, output: ExecOutput): Promise<GuestProcess> {
    this.#requireRunning();
    const { session, spec, terminal: waiting } = this.held;
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
        ...this.#env,
        ...request.env,
      },
      cwd: request.cwd,
      user,
      stdin: request.stdin,
      terminal,
    });
  }

  /** Starts a command on a terminal that outlives its connection. */
  async openTerminal(request: ExecRequest, view: TerminalView): Promise<AttachedProcess> {
    return await this.terminals.open(
      view,
      (onStdout) => this.exec(request, { onStdout, onStderr: onStdout }),
    );
  }

  /** Connects to a TCP port of the guest. */
  async connect(port: number): Promise<GuestStream> {
    this.#requireRunning();
    return await this.held.session.guest.connect(port);
  }

  /** The reverse proxy to a port of the guest. */
  proxy(port: number): PortProxy {
    this.#requireRunning();
    const known = this.#proxies.get(port);
    if (known !== undefined) return known;
    if (this.#proxies.size >= MAX_PROXIED_PORTS) {
      throw new SessionError(
        "limit_reached",
        `A session has ${MAX_PROXIED_PORTS} ports at once that are asked by HTTP`,
      );
    }
    const socketPath = join(this.held.session.folder, `p${port}.sock`);
    const proxy = new PortProxy({ port, socketPath, connect: () => this.connect(port) });
    this.#proxies.set(port, this.attached.use(proxy));
    return proxy;
  }

  /** A file or the content of a folder, as a tar stream. */
  readArchive(path: string): AsyncGenerator<Uint8Array> {
    this.#requireRunning();
    return this.held.session.guest.get(path, MAX_ARCHIVE_BYTES);
  }

  /** Unpacks a tar stream into a folder; all of it belongs to the agent. */
  async writeArchive(path: string, tar: AsyncIterable<Uint8Array>): Promise<void> {
    this.#requireRunning();
    await this.held.session.guest.put(tar, { path, uid: 1000, gid: 1000 });
  }

  /** What is in a folder. */
  async list(path: string): Promise<FolderListing> {
    this.#requireRunning();
    return await listFolder(this.held.session.guest, path);
  }

  /** Opens a file. */
  async openFile(path: string): Promise<GuestFile> {
    this.#requireRunning();
    return await openFile(this.held.session.guest, path, MAX_FILE_BYTES);
  }

  /** Writes a file, which belongs to the agent then. */
  async writeFile(path: string, file: NewFile): Promise<void> {
    this.#requireRunning();
    const { guest, folder } = this.held.session;
    const { sizeBytes, mode, content } = file;
    if (sizeBytes !== undefined) return await writeFile(guest, path, { sizeBytes, mode, content });
    await using spooled = await spoolBody(folder, content, MAX_FILE_BYTES);
    await writeFile(guest, path, { sizeBytes: spooled.sizeBytes, mode, content: spooled.content });
  }

  /** Stops the guest where it is, or lets it go on; nothing where it is so already. */
  async setPaused(isPaused: boolean): Promise<void> {
    const change = this.#lastChange.then(() => this.#change(isPaused));
    this.#lastChange = change.catch(() => {/* told to who asked */});
    await change;
  }

  async #change(isPaused: boolean): Promise<void> {
    if (this.#isPaused === isPaused) return;
    const { session } = this.held;
    // Before it stops: a command that starts meanwhile would hang
    this.#isPaused = true;
    try {
      await (isPaused ? session.pause() : session.resume());
      this.#isPaused = isPaused;
    } catch (cause) {
      if (isPaused) this.#isPaused = false;
      if (!(cause instanceof VmAnswerError)) throw cause;
      throw new SessionError("vm_ended", cause.message, { cause });
    }
  }

  /** @throws {SessionError} when it is a task's */
  requireKept(): void {
    if (this.keptLog !== undefined) return;
    throw new SessionError("conflict", `A task runs in session "${this.id}": cancel the task instead`);
  }

  #requireRunning(): void {
    if (this.#isPaused) throw new SessionError("conflict", `Session "${this.id}" is paused: resume it first`);
  }
}
