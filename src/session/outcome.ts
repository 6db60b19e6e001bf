/**
 * Turns the facts of an agent's run into its outcome and the sentence that says why. An exit code of 0 is
 * never enough: agents exit with 0 after runs in which nothing worked.
 *
 * @module
 */

import type { GatewayDecision } from "../network/model_gateway.ts";
import type { AgentRunFacts } from "./agent_run.ts";
import type { GuestExit } from "./guest_client.ts";
import type { TaskOutcome } from "./task.ts";

/** An outcome with its cause. */
export interface Verdict {
  readonly outcome: TaskOutcome;
  readonly cause: string;
}

/** What the model's API did last that was not an answer, as a sentence; undefined when all went well. */
export function describeModelFailure(decision: GatewayDecision | undefined): string | undefined {
  if (decision === undefined) return undefined;
  if (decision.action !== "forwarded") return decision.reason ?? `model request ${decision.action}`;
  if (decision.status < 400) return undefined;
  return `Model API answered ${decision.status}${
    decision.reason === undefined ? "" : `: ${decision.reason}`
  }`;
}

function describeExit(exit: GuestExit): string {
  if (exit.timedOut) return "was ended by the guest's time limit";
  if (exit.signal === 9) return "was killed (signal 9), which is what the kernel does when memory runs out";
  if (exit.signal !== null) return `was ended by signal ${exit.signal}`;
  return `exited with code ${exit.exitCode}`;
}

function agentFailure(facts: AgentRunFacts, exit: GuestExit, modelFailure: string | undefined): string {
  const reasons = [
    facts.fatalMessage,
    modelFailure !== undefined && !facts.fatalMessage?.includes(modelFailure) ? modelFailure : null,
  ].filter((reason) => reason !== null);
  const what = `Agent ${describeExit(exit)}${facts.sawDone ? "" : " without completing its turn"}`;
  if (reasons.length > 0) return `${what}: ${reasons.join("; ")}`;
  return facts.stderrTail === "" ? what : `${what}: ${facts.stderrTail}`;
}

/** The verdict on a run; `lastDecision` is the model gateway's last one. */
export function judgeRun(
  facts: AgentRunFacts,
  limits: {
    readonly timeoutMs: number;
    readonly lastDecision: GatewayDecision | undefined;
    /** a request was refused because the budget was used up */
    readonly overBudget: boolean;
  },
): Verdict {
  const { end } = facts;
  const modelFailure = describeModelFailure(limits.lastDecision);
  switch (end.kind) {
    case "cancelled":
      return { outcome: "cancelled", cause: "Task was cancelled" };
    case "deadline": {
      const why = facts.fatalMessage ?? modelFailure;
      const limit = `Agent did not finish within ${limits.timeoutMs / 1000} s`;
      return { outcome: "timeout", cause: why === undefined ? limit : `${limit}: ${why}` };
    }
    case "vm_ended":
      return { outcome: "host_failed", cause: `VM ended while the agent ran: ${end.message}` };
    case "lost":
      return { outcome: "host_failed", cause: `Guest was lost while the agent ran: ${end.message}` };
    case "exited": {
      if (end.exit.exitCode === 0 && facts.sawDone && facts.fatalMessage === null) {
        return { outcome: "done", cause: "Agent completed its turn" };
      }
      if (limits.overBudget) {
        return { outcome: "budget_exceeded", cause: modelFailure ?? "The task's budget is used up" };
      }
      return { outcome: "agent_failed", cause: agentFailure(facts, end.exit, modelFailure) };
    }
  }
}
