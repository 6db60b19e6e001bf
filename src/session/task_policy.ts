/**
 * What a task may reach: its request's rules, understood or refused.
 *
 * @module
 */

import { DEFAULT_EGRESS, EgressPolicy } from "../network/egress_policy.ts";
import { EgressRuleError } from "../network/egress_rule.ts";
import { SessionError } from "./session_error.ts";
import type { TaskRequest } from "./task.ts";

export { EGRESS_MODES } from "../network/egress_policy.ts";

/** The policy of a task. @throws {SessionError} when its rules cannot be understood */
export function taskPolicy(request: TaskRequest): EgressPolicy {
  try {
    return new EgressPolicy(request.network ?? DEFAULT_EGRESS);
  } catch (error) {
    if (error instanceof EgressRuleError) throw new SessionError("config", error.message, { cause: error });
    throw error;
  }
}
