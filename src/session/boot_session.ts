/**
 * Boots a session that somebody asked for as such: no agent is started in it.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import { prepareImage } from "../images/prepare.ts";
import type { EgressPolicy } from "../network/egress_policy.ts";
import { ModelBudget } from "../network/model_budget.ts";
import type { NetworkLog } from "../network/network_log.ts";
import { ModelCredentials, modelUpstream } from "./model_access.ts";
import { Session } from "./session.ts";
import { putWorkspace } from "./task_files.ts";

const BOOT_TIMEOUT_MS = 120_000;

/** What makes a session (default: a VM); replaced in tests. */
export type SessionMaker = typeof Session.create;

/** Options of {@linkcode bootSession}. */
export interface BootSessionOptions {
  readonly id: string;
  readonly stateDir: string;
  readonly spec: AgentSpec;
  readonly memoryMib: number;
  readonly cpus: number;
  readonly policy: EgressPolicy;
  readonly networkLog: NetworkLog;
  /** archive that goes into its workspace (undefined: that is empty) */
  readonly workspaceTar: string | undefined;
  /** what makes the image (default: {@linkcode prepareImage}) */
  readonly prepare: typeof prepareImage | undefined;
  readonly make: SessionMaker | undefined;
  readonly signal: AbortSignal;
}

/** Boots the session; whoever asked has to dispose of it. @throws when it does not come up: nothing is left then */
export async function bootSession(
  options: BootSessionOptions,
): Promise<{ readonly session: Session; readonly imageKey: string }> {
  const { spec, networkLog, signal, workspaceTar } = options;
  const image = await (options.prepare ?? prepareImage)(spec, { onProgress: () => {}, signal });
  await using stack = new AsyncDisposableStack();
  const { id, stateDir, memoryMib, cpus, policy } = options;
  const session = await (options.make ?? Session.create)({
    id,
    stateDir,
    image,
    hostname: spec.name,
    memoryMib,
    cpus,
    bootTimeoutMs: BOOT_TIMEOUT_MS,
    upstream: modelUpstream(spec.model, undefined, new ModelCredentials()),
    budget: new ModelBudget(),
    onGateway: (decision) => networkLog.addModelRequest(decision),
    policy,
    networkLog,
    onPhase: () => {},
    signal,
  });
  stack.use(session);
  await putWorkspace(session, workspaceTar);
  signal.throwIfAborted();
  stack.move();
  return { session, imageKey: image.imageKey };
}
