/**
 * The agents that there are.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import { spec as claudeCode } from "../../agent-images/claude-code/agent.ts";
import { spec as codex } from "../../agent-images/codex/agent.ts";
import { spec as openclaw } from "../../agent-images/openclaw/agent.ts";

const SPECS = [codex, claudeCode, openclaw];
const AGENTS: ReadonlyMap<string, AgentSpec> = new Map(SPECS.map((spec) => [spec.name, spec]));

/** Names of all agents. */
export const AGENT_NAMES: readonly string[] = [...AGENTS.keys()];

/** An agent by its name, or undefined. */
export function findAgent(name: string): AgentSpec | undefined {
  return AGENTS.get(name);
}
