/**
 * The lines that end a run: what came out, what changed, where it is, where the time went.
 *
 * @module
 */

import { formatUsd, type TaskOutcome, type TaskResult } from "../api/client.ts";
import { printable } from "./printable.ts";
import { formatMs } from "./quantities.ts";
import type { Style } from "./style.ts";

/** Exit codes of the command line. */
export const EXIT_CODES = {
  done: 0,
  agentFailed: 1,
  usage: 2,
  host: 3,
  timeout: 4,
  budget: 5,
  interrupted: 130,
} as const;

const OUTCOME_CODES: Readonly<Record<TaskOutcome, number>> = {
  done: EXIT_CODES.done,
  agent_failed: EXIT_CODES.agentFailed,
  host_failed: EXIT_CODES.host,
  timeout: EXIT_CODES.timeout,
  budget_exceeded: EXIT_CODES.budget,
  cancelled: EXIT_CODES.interrupted,
  interrupted: EXIT_CODES.host,
};

const OUTCOME_WORDS: Readonly<Record<TaskOutcome, string>> = {
  done: "Done",
  agent_failed: "Agent failed",
  host_failed: "Host failed",
  timeout: "Timed out",
  budget_exceeded: "Budget used up",
  cancelled: "Cancelled",
  interrupted: "Interrupted",
};

const MAX_SHOWN_PATHS = 30;
const KIND_LETTERS = { added: "A", modified: "M", deleted: "D" } as const;

/** Exit code for an outcome. */
export function exitCodeFor(outcome: TaskOutcome): number {
  return OUTCOME_CODES[outcome];
}

function changeLines(changes: NonNullable<TaskResult["changes"]>): string[] {
  if (changes.totalCount === 0) return ["No files changed"];
  const shown = changes.paths.slice(0, MAX_SHOWN_PATHS);
  const lines = shown.map((change) => `  ${KIND_LETTERS[change.kind]} ${printable(change.path)}`);
  const hidden = changes.totalCount - shown.length;
  if (hidden > 0) lines.push(`  … ${hidden} more`);
  return [`${changes.totalCount} file${changes.totalCount === 1 ? "" : "s"} changed:`, ...lines];
}

/** Lines about a result; `outFolder` is where the files are (empty: there are none). */
export function renderSummary(result: TaskResult, options: { outFolder: string; style: Style }): string[] {
  const { style, outFolder } = options;
  const word = OUTCOME_WORDS[result.outcome];
  const isDone = result.outcome === "done";
  const lines = [isDone ? style.green(word) : style.red(`${word}: ${printable(result.cause)}`)];
  if (result.changes !== null) {
    lines.push(...changeLines(result.changes));
    const { ignoredCount, refusedCount } = result.changes;
    if (ignoredCount > 0) lines.push(`${ignoredCount} new ignored files are only in workspace.tar`);
    if (refusedCount > 0) lines.push(`${refusedCount} unsafe entries of the guest's workspace were left out`);
  }
  if (result.commits !== null && "problem" in result.commits) {
    lines.push(style.red(printable(result.commits.problem)));
  } else if (result.commits !== null) {
    const { count } = result.commits;
    lines.push(`${count} commit${count === 1 ? "" : "s"}: see patches/`);
  }
  const denied = result.network?.denied ?? 0;
  if (denied > 0) {
    lines.push(`${denied} attempt${denied === 1 ? "" : "s"} to reach the network denied: see network.jsonl`);
  }
  if (result.modelUsage !== null) {
    const { inputTokens, cachedTokens, outputTokens } = result.modelUsage;
    const cost = result.modelCostUsd === null ? "" : `, about ${formatUsd(result.modelCostUsd)}`;
    lines.push(style.dim(
      `Model: ${inputTokens} tokens in (${cachedTokens} from a cache), ${outputTokens} out${cost}`,
    ));
  }
  const times = Object.entries(result.timesMs).map(([phase, ms]) =>
    `${phase.replace("_", " ")} ${formatMs(ms)}`
  );
  if (times.length > 0) lines.push(style.dim(`Time: ${times.join(", ")}`));
  if (outFolder !== "") lines.push(`Results are in ${outFolder}/`);
  if (result.keptSession !== undefined) {
    const id = result.keptSession;
    lines.push(`The session goes on: sandbox shell ${id} enters it, sandbox rm ${id} ends it`);
  }
  return lines;
}
