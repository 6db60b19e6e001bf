/**
 * What is kept of a session beyond its task: the disk, which a running guest goes on using, its facts, and what its
 * network does from then on. A folder `kept/<id>` that no VM runs on is a session that is stopped.
 *
 * @module
 */

import { join } from "node:path";
import { removeAll } from "../images/build_once.ts";
import { NetworkLog } from "../network/network_log.ts";
import type { EgressPolicy } from "../network/egress_policy.ts";
import type { Session } from "./session.ts";

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
  /** root disk that the kept one is an overlay of */
  readonly imageKey: string;
}

/** The kept sessions of a state folder. */
export class KeptSessions {
  readonly #folder: string;

  constructor(stateDir: string) {
    this.#folder = join(stateDir, "kept");
  }

  /** Folder of one session. */
  folder(id: string): string {
    return join(this.#folder, id);
  }

  /** Path of the network journal of a session since it is kept. */
  networkPath(id: string): string {
    return join(this.folder(id), NETWORK_NAME);
  }

  /** Takes a session's disk; gives the log of its network from now on. */
  async take(session: Session, facts: KeptFacts, policy: EgressPolicy): Promise<NetworkLog> {
    const folder = this.folder(session.id);
    await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
    await Deno.writeTextFile(join(folder, FACTS_NAME), JSON.stringify(facts), { mode: 0o600 });
    // A running guest keeps its open file. The disk comes last: a folder without one is not a session
    await Deno.rename(join(session.folder, DISK_NAME), join(folder, DISK_NAME));
    return new NetworkLog({ path: this.networkPath(session.id), policy, onFirst: () => {} });
  }

  /** Facts of all sessions, newest first. */
  async list(): Promise<KeptFacts[]> {
    const all = await Promise.all((await this.#names()).map((id) => this.facts(id)));
    return all.filter((facts) => facts !== undefined).sort((a, b) => a.createdAt < b.createdAt ? 1 : -1);
  }

  /** Facts of one session (undefined: there is none). */
  async facts(id: string): Promise<KeptFacts | undefined> {
    try {
      await Deno.stat(join(this.folder(id), DISK_NAME));
      return JSON.parse(await Deno.readTextFile(join(this.folder(id), FACTS_NAME))) as KeptFacts;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** Writes down the end of a guest's serial output. */
  async saveConsole(id: string, text: string): Promise<void> {
    await Deno.writeTextFile(join(this.folder(id), CONSOLE_NAME), text, { mode: 0o600 });
  }

  /** The end of the guest's serial output, as it was when the guest ended. */
  async console(id: string): Promise<string> {
    return await Deno.readTextFile(join(this.folder(id), CONSOLE_NAME)).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    });
  }

  /** Removes what is kept of a session. */
  async remove(id: string): Promise<void> {
    await removeAll(this.folder(id));
  }

  /** Removes the folders of sessions whose taking was cut short. */
  async sweep(isAlive: (id: string) => boolean): Promise<void> {
    for (const id of await this.#names()) {
      if (!isAlive(id) && await this.facts(id) === undefined) await this.remove(id);
    }
  }

  async #names(): Promise<string[]> {
    try {
      return await Array.fromAsync(Deno.readDir(this.#folder), ({ name }) => name);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }
}
