/**
 * What a task is, while it runs and when it is over: plain data that goes through the store, the API and the
 * command line unchanged.
 *
 * @module
 */

import type { RecordedEvent, TokenUsage } from "../../agent-images/agent_spec.ts";
import type { PriceTable } from "../../agent-images/model_price.ts";
import type { ProgressEvent } from "../images/progress.ts";
import type { EgressRequest } from "../network/egress_policy.ts";
import type { GatewayDecision } from "../network/model_gateway.ts";
import type { NetworkDecision } from "../network/network_decision.ts";
import type { NetworkSummary } from "../network/network_log.ts";
import type { AgentCommits } from "./agent_commits.ts";
import type { BootPhases } from "./boot_phases.ts";
import type { ChangedPath } from "./git_history.ts";

export { formatUsd } from "../network/model_budget.ts";
export { describeDecision } from "../network/network_decision.ts";
export type { RecordedEvent, TokenUsage } from "../../agent-images/agent_spec.ts";

/** How a task ended. */
export type TaskOutcome =
  /** the agent says that it completed its turn, and exited with 0 */
  | "done"
  /** the agent ended without completing its turn */
  | "agent_failed"
  /** the time limit was reached */
  | "timeout"
  /** the limit on the model's tokens, or on what they cost, was reached */
  | "budget_exceeded"
  /** somebody stopped it */
  | "cancelled"
  /** the server that ran it ended */
  | "interrupted"
  /** the VM, the image or the host failed */
  | "host_failed";

/** Steps of a task, in order. */
export type TaskPhase = "prepare" | "network" | "vm_start" | "boot" | "upload" | "agent" | "result";

/** What a task is told to do. */
export interface TaskRequest {
  readonly agent: string;
  /** what the agent is to do (empty: what its user says on the terminal) */
  readonly prompt: string;
  /** run the agent's own user interface, on a terminal that somebody brings */
  readonly interactive?: boolean | undefined;
  /** model name (default: the agent's own) */
  readonly model?: string | undefined;
  /** guest RAM in `MiB` (default: the agent's own) */
  readonly memoryMib?: number | undefined;
  readonly cpus: number;
  /** longest run of the agent in `ms` */
  readonly timeoutMs: number;
  /** base URL of the model's API (default: the provider's) */
  readonly modelUrl?: string | undefined;
  /** longest silence of the model's API in `ms` */
  readonly modelIdleTimeoutMs?: number | undefined;
  /** most tokens that the model's answers may use, input and output together (default: no limit) */
  readonly maxTokens?: number | undefined;
  /** most that the model's answers may cost in USD (default: no limit) */
  readonly maxCostUsd?: number | undefined;
  /** prices that go before those that are known of the agent's models */
  readonly prices?: PriceTable | undefined;
  /** what the agent may reach beside its model (default: nothing) */
  readonly network?: EgressRequest | undefined;
  /** keep the session, with its VM running, after the end */
  readonly keep: boolean;
  /** variables for the agent, beside those that it needs itself */
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/** What a file of lines holds. */
export interface RecordFacts {
  readonly lineCount: number;
  /** something was left out: it was more than is kept */
  readonly truncated: boolean;
}

/** No lines. */
export const NOTHING_RECORDED: RecordFacts = { lineCount: 0, truncated: false };

/** Everything known of a task that is over. */
export interface TaskResult {
  readonly outcome: TaskOutcome;
  /** sentence that says why it ended so */
  readonly cause: string;
  /** agent's exit code (null: it did not exit by itself) */
  readonly exitCode: number | null;
  /** signal that ended the agent (null: none) */
  readonly signal: number | null;
  /** last thing that the agent said */
  readonly finalMessage: string | null;
  /** tokens of the whole run as the agent counted them (null: it said nothing) */
  readonly usage: TokenUsage | null;
  /** tokens as the model's own answers counted them (null: none said so) */
  readonly modelUsage: TokenUsage | null;
  /** what these cost in USD (null: nothing was used, or a model whose price is not known) */
  readonly modelCostUsd: number | null;
  /** what changed in the workspace (null: it could not be fetched) */
  readonly changes: {
    /** first paths, by name */
    readonly paths: readonly ChangedPath[];
    readonly totalCount: number;
    readonly ignoredCount: number;
    readonly refusedCount: number;
  } | null;
  /** what the agent committed on top of what it was given (null: nothing, or there was no repository) */
  readonly commits: AgentCommits | { readonly problem: string } | null;
  /** duration of each phase in `ms` */
  readonly timesMs: Readonly<Partial<Record<TaskPhase, number>>>;
  /** phases of the VM's boot in `ms` (absent: no VM started) */
  readonly bootMs?: BootPhases;
  readonly versions: Readonly<Record<string, string>>;
  readonly modelRequests: { readonly forwarded: number; readonly refused: number; readonly failed: number };
  /** what the agent tried to reach beside its model (absent: no VM started) */
  readonly network?: NetworkSummary;
  /** the agent's events (`transcript.jsonl`) */
  readonly transcript: RecordFacts;
  /** what the agent itself printed (`raw.jsonl`) */
  readonly raw: RecordFacts;
  /** session that goes on (absent: it is gone) */
  readonly keptSession?: string;
}

/** The result of a task of which nothing is known but why it ended. */
export function lostResult(cause: string, outcome: TaskOutcome = "host_failed"): TaskResult {
  return {
    outcome,
    cause,
    exitCode: null,
    signal: null,
    finalMessage: null,
    usage: null,
    modelUsage: null,
    modelCostUsd: null,
    changes: null,
    commits: null,
    timesMs: {},
    versions: {},
    modelRequests: { forwarded: 0, refused: 0, failed: 0 },
    transcript: NOTHING_RECORDED,
    raw: NOTHING_RECORDED,
  };
}

/** One thing that happened in a task. */
export type TaskEvent =
  /** a phase is over */
  | { readonly type: "phase"; readonly phase: TaskPhase; readonly ms: number }
  /** the image is being prepared */
  | { readonly type: "prepare"; readonly progress: ProgressEvent }
  /** the agent did something */
  | { readonly type: "agent"; readonly event: RecordedEvent }
  /** the agent wrote to its stderr */
  | { readonly type: "stderr"; readonly text: string }
  /** the guest used the model gateway */
  | { readonly type: "gateway"; readonly decision: GatewayDecision }
  /** the guest tried to reach something, in this way for the first time */
  | { readonly type: "network"; readonly decision: NetworkDecision }
  /** the agent waits for a terminal in this session */
  | { readonly type: "terminal"; readonly sessionId: string }
  /** the task is over: always the last event */
  | { readonly type: "result"; readonly result: TaskResult };
