/**
 * The agents that there are.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import { spec as codex } from "../../agent-images/codex/agent.ts";

const AGENTS: ReadonlyMap<string, AgentSpec> = new Map([codex].map((spec) => [spec.name, spec]));

/** Names of all agents. */
export const AGENT_NAMES: readonly string[] = [...AGENTS.keys()];

/** An agent by its name, or undefined. */
export function findAgent(name: string): AgentSpec | undefined {
  return AGENTS.get(name);
}
