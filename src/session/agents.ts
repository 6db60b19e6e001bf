/**
 * The agents that there are: one for each folder of `agent-images`.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";

const FOLDER = new URL("../../agent-images/", import.meta.url);

/** A folder's specification, unless it holds none. */
async function load(name: string): Promise<AgentSpec | undefined> {
  const file = new URL(`${name}/agent.ts`, FOLDER);
  if (!await Deno.stat(file).then((info) => info.isFile, () => false)) return undefined;
  return (await import(file.href) as { readonly spec: AgentSpec }).spec;
}

const folders = Array.from(Deno.readDirSync(FOLDER)).filter((entry) => entry.isDirectory);
const specs = await Promise.all(folders.map(({ name }) => name).sort().map(load));
const AGENTS: ReadonlyMap<string, AgentSpec> = new Map(
  specs.flatMap((spec) => spec === undefined ? [] : [[spec.name, spec] as const]),
);

/** Names of all agents. */
export const AGENT_NAMES: readonly string[] = [...AGENTS.keys()];

/** An agent by its name, or undefined. */
export function findAgent(name: string): AgentSpec | undefined {
  return AGENTS.get(name);
}
