/**
 * The sessions of a server as their tasks see it: while a task runs, others may enter its session; a session that is
 * kept has the server as its owner from then on.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import type { EgressPolicy } from "../network/egress_policy.ts";
import type { NetworkLog } from "../network/network_log.ts";
import type { AgentTerminal } from "./agent_terminal.ts";
import type { KeptFacts } from "./kept_sessions.ts";
import type { Session } from "./session.ts";

export type { NetworkLog } from "../network/network_log.ts";

/** A session that is up. */
export interface HeldSession {
  readonly session: Session;
  readonly spec: AgentSpec;
  readonly facts: KeptFacts;
  readonly policy: EgressPolicy;
  /** the agent, if it waits for a terminal */
  readonly terminal: AgentTerminal | undefined;
}

/** Who holds a server's sessions. */
export interface SessionHolder {
  /** Lets others enter a session until what it gives is disposed of, or for good if it is kept. */
  add(held: HeldSession): Disposable;
  /** Takes a session over: who added it must no longer end it. Gives the log of its network from now on. */
  keep(id: string): Promise<NetworkLog>;
}
