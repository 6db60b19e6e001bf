/**
 * What there is of a session beyond its VM and beyond a task: its facts, its disk, which a running guest goes on using,
 * and what its network does. All of it is a folder `kept/<id>`, there before the VM of a session that was asked for, and
 * from its keeping on for one that a task leaves. A folder whose session no process runs is a session that is stopped.
 *
 * @module
 */

import { join } from "node:path";
import { removeAll } from "../images/build_once.ts";
import { NetworkLog } from "../network/network_log.ts";
import type { EgressPolicy } from "../network/egress_policy.ts";
import { makeOwnedFolder, sweepDraft } from "./owned_folder.ts";
import { isAlive, ownId } from "./owner.ts";
import { isSessionId } from "./record.ts";
import type { Session } from "./session.ts";
import { SessionError } from "./session_error.ts";

export { removeAll } from "../images/build_once.ts";

const FACTS_NAME = "session.json";
const DISK_NAME = "overlay.qcow2";
const CONSOLE_NAME = "console.log";
const NETWORK_NAME = "network.jsonl";

/** What is known of a kept session. */
export interface KeptFacts {
  readonly version: 1;
  readonly id: string;
  readonly agent: string;
  readonly memoryMib: number;
  readonly cpus: number;
  /** ISO 8601 */
  readonly createdAt: string;
  /** root disk that the kept one is an overlay of (empty: it is not there yet) */
  readonly imageKey: string;
  /** token that it belongs to (absent: this machine's own command line) */
  readonly tokenId?: string;
  /** words of its user's */
  readonly labels?: Readonly<Record<string, string>>;
  /** when it is removed, ISO 8601 (absent: when somebody removes it) */
  readonly expiresAt?: string;
  /** somebody asked for it as such: of it nothing is kept after a crash (absent: a task left it) */
  readonly isRequested?: true;
  /** process that runs its VM (absent: none does) */
  readonly owner?: string;
  /** why it has no VM (absent: it was stopped) */
  readonly failure?: string;
}

/** Whether the time of a session is over. */
export function isExpired({ expiresAt }: Pick<KeptFacts, "expiresAt">, nowMs = Date.now()): boolean {
  return expiresAt !== undefined && Date.parse(expiresAt) <= nowMs;
}

/** The kept sessions of a state folder. */
export class KeptSessions {
  readonly #stateDir: string;
  readonly #folder: string;

  constructor(stateDir: string) {
    this.#stateDir = stateDir;
    this.#folder = join(stateDir, "kept");
  }

  /** Folder of one session. @throws {SessionError} when this cannot be a session's id */
  folder(id: string): string {
    if (!isSessionId(id)) throw new SessionError("not_found", "There is no such session");
    return join(this.#folder, id);
  }

  /** Path of the network journal of a session since it is kept. */
  networkPath(id: string): string {
    return join(this.folder(id), NETWORK_NAME);
  }

  /** Makes the folder of a session that this process runs; there is none before. */
  async reserve(facts: KeptFacts): Promise<void> {
    const owner = ownId(this.#stateDir);
    const content = JSON.stringify({ ...facts, owner } satisfies KeptFacts);
    await makeOwnedFolder({ parent: this.#folder, id: facts.id, owner, fileName: FACTS_NAME, content });
  }

  /** Replaces the facts of a session; with `isRun` its VM is this process's. */
  async update(facts: KeptFacts, { isRun }: { readonly isRun: boolean }): Promise<void> {
    const { owner: _owner, ...others } = facts;
    const written: KeptFacts = isRun ? { ...others, owner: ownId(this.#stateDir) } : others;
    const path = join(this.folder(facts.id), FACTS_NAME);
    await Deno.writeTextFile(`${path}.new`, JSON.stringify(written), { mode: 0o600 });
    await Deno.rename(`${path}.new`, path);
  }

  /** Takes the disk of a session; a running guest keeps its open file. */
  async takeDisk(session: Session): Promise<void> {
    await Deno.rename(join(session.folder, DISK_NAME), join(this.folder(session.id), DISK_NAME));
  }

  /** Opens the log of what a session's network does from now on. */
  openLog(id: string, policy: EgressPolicy): NetworkLog {
    return new NetworkLog({ path: this.networkPath(id), policy, onFirst: () => {} });
  }

  /** Facts of all sessions, newest first. */
  async list(): Promise<KeptFacts[]> {
    const all = await Promise.all((await this.#names()).filter(isSessionId).map((id) => this.facts(id)));
    return all.filter((facts) => facts !== undefined).sort((a, b) => a.createdAt < b.createdAt ? 1 : -1);
  }

  /** Facts of one session (undefined: there is none). */
  async facts(id: string): Promise<KeptFacts | undefined> {
    const facts = await this.#read(id);
    if (facts === undefined || facts.failure !== undefined) return facts;
    // Until its disk is there, it is a session only for those who make it
    const hasDisk = await Deno.stat(join(this.folder(id), DISK_NAME)).then(() => true, ifMissing(false));
    return hasDisk ? facts : undefined;
  }

  /** Writes down the end of a guest's serial output. */
  async saveConsole(id: string, text: string): Promise<void> {
    await Deno.writeTextFile(join(this.folder(id), CONSOLE_NAME), text, { mode: 0o600 });
  }

  /** The end of the guest's serial output, as it was when the guest ended. */
  async console(id: string): Promise<string> {
    return await Deno.readTextFile(join(this.folder(id), CONSOLE_NAME)).catch(ifMissing(""));
  }

  /** Removes what is kept of a session. */
  async remove(id: string): Promise<void> {
    await removeAll(this.folder(id));
  }

  /**
   * Removes what nobody can use: folders whose making was cut short, sessions whose time is over, and those that were
   * asked for and lost their VM with the process that ran it.
   */
  async sweep(): Promise<void> {
    for (const id of await this.#names()) {
      if (await sweepDraft(this.#stateDir, this.#folder, id) || !isSessionId(id)) continue;
      const written = await this.#read(id);
      const isRun = written?.owner !== undefined && isAlive(this.#stateDir, written.owner);
      if (isRun) continue;
      const facts = await this.facts(id);
      const isLost = facts?.isRequested === true && facts.owner !== undefined;
      if (facts === undefined || isLost || isExpired(facts)) await this.remove(id);
      else if (facts.owner !== undefined) await this.update(facts, { isRun: false });
    }
  }

  async #read(id: string): Promise<KeptFacts | undefined> {
    const text = await Deno.readTextFile(join(this.folder(id), FACTS_NAME)).catch(ifMissing(undefined));
    return text === undefined ? undefined : JSON.parse(text) as KeptFacts;
  }

  async #names(): Promise<string[]> {
    return await Array.fromAsync(Deno.readDir(this.#folder), ({ name }) => name).catch(ifMissing([]));
  }
}

/** What to take for something that is not there. */
function ifMissing<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof Deno.errors.NotFound) return value;
    throw error;
  };
}
