/**
 * What a task may reach and what it may use: its request's rules, understood or refused.
 *
 * @module
 */

import type { AgentModel } from "../../agent-images/agent_spec.ts";
import { DEFAULT_EGRESS, EgressPolicy } from "../network/egress_policy.ts";
import { EgressRuleError } from "../network/egress_rule.ts";
import { ModelBudget } from "../network/model_budget.ts";
import { SessionError } from "./session_error.ts";
import type { TaskRequest } from "./task.ts";

export { EGRESS_MODES, type EgressPolicy } from "../network/egress_policy.ts";

/** The policy of a task or a session. @throws {SessionError} when its rules cannot be understood */
export function taskPolicy(request: Pick<TaskRequest, "network">): EgressPolicy {
  try {
    return new EgressPolicy(request.network ?? DEFAULT_EGRESS);
  } catch (error) {
    if (error instanceof EgressRuleError) throw new SessionError("config", error.message, { cause: error });
    throw error;
  }
}

/** The budget of a task with this model, if any. @throws {SessionError} when its model has no price and its cost is limited */
export function taskBudget(
  { maxCostUsd, maxTokens, model, prices = {} }: Pick<
    TaskRequest,
    "maxCostUsd" | "maxTokens" | "model" | "prices"
  >,
  { aliases = [], prices: known = {} }: Partial<AgentModel> = {},
): ModelBudget {
  const budget = new ModelBudget({ maxTokens, maxCostUsd, prices: [prices, known] });
  // The agent's own default, and what it makes of an alias, are known once it asks for it.
  if (model === undefined || aliases.includes(model)) return budget;
  const refusal = budget.priceRefusal(model);
  if (refusal !== undefined) throw new SessionError("config", refusal);
  return budget;
}
