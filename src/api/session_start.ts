/**
 * The start of a session that was asked for, from its request to its VM.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import { bootSession, type SessionMaker } from "../session/boot_session.ts";
import { type KeptFacts, removeAll } from "../session/kept_sessions.ts";
import { newSessionId } from "../session/record.ts";
import type { RunTaskOptions } from "../session/run_task.ts";
import type { NetworkLog } from "../session/session_holder.ts";
import type { EgressPolicy } from "../session/task_policy.ts";
import { describeVmEnd, type VmEnd } from "../session/vm_end.ts";
import { LiveSession } from "./live_session.ts";
import type { SessionSubmission } from "./session_schemas.ts";

/** Most of why a session failed that is kept, in characters: a guest's last lines are part of it. */
const MAX_CAUSE_LENGTH = 4000;

/** A session on its way to a VM. */
export interface StartingSession {
  facts: KeptFacts;
  readonly abort: AbortController;
  /** settles when it runs, or has failed, or is given up */
  over: Promise<void>;
}

/** What a session is started with, beside its facts. */
export interface StartOptions {
  readonly spec: AgentSpec;
  readonly policy: EgressPolicy;
  /** variables of all commands in it */
  readonly env: Readonly<Record<string, string>>;
  /** archive that becomes its workspace; is gone afterwards */
  readonly workspaceTar: string | undefined;
}

/** What a server makes sessions with. */
export interface SessionMaking {
  readonly stateDir: string;
  /** what makes images (default: they are built where they are missing) */
  readonly prepare?: RunTaskOptions["prepare"];
  /** what makes sessions (default: VMs) */
  readonly makeSession?: SessionMaker | undefined;
}

/** What is known of a session from the start. */
export function newFacts(
  { memoryMib, cpus, ttlMs, labels }: SessionSubmission,
  { spec, tokenId }: { readonly spec: AgentSpec; readonly tokenId: string },
): KeptFacts {
  const now = Date.now();
  return {
    version: 1,
    id: newSessionId(),
    agent: spec.name,
    memoryMib: memoryMib ?? spec.memoryMib,
    cpus,
    createdAt: new Date(now).toISOString(),
    expiresAt: new Date(now + ttlMs).toISOString(),
    imageKey: "",
    tokenId,
    labels,
    isRequested: true,
  };
}

/** Boots it; whoever asked ends it. @throws when it does not come up, or is given up: nothing is left of its VM then */
export async function bootLive(
  starting: StartingSession,
  options: StartOptions & SessionMaking & { readonly networkLog: NetworkLog },
): Promise<LiveSession> {
  const { stateDir, prepare, makeSession: make, spec, policy, env, workspaceTar, networkLog } = options;
  const { id, memoryMib, cpus } = starting.facts;
  const parts = { id, stateDir, spec, memoryMib, cpus, policy, networkLog, workspaceTar, prepare, make };
  try {
    const { session, imageKey } = await bootSession({ ...parts, signal: starting.abort.signal });
    // Its time may have been changed meanwhile
    const facts = { ...starting.facts, imageKey };
    return new LiveSession({ session, spec, facts, policy, terminal: undefined }, env);
  } finally {
    if (workspaceTar !== undefined) await removeAll(workspaceTar);
  }
}

/** The sentence that says why a session has no VM. */
export function causeOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, MAX_CAUSE_LENGTH);
}

/** Why a VM that ended did so, unless it was powered off. */
export function failureOf(end: VmEnd | undefined): Pick<KeptFacts, "failure"> {
  const isWanted = end === undefined ||
    (end.type === "stopped" && (end.reason === "poweroff" || end.reason === "killed"));
  return isWanted ? {} : { failure: describeVmEnd(end).slice(0, MAX_CAUSE_LENGTH) };
}
