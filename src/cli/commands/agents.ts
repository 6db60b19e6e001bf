/**
 * `sandbox agents`: the agents that there are.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { overviewAgents } from "../../local/images.ts";
import { renderTable } from "../table.ts";

/** Runs the command and gives its exit code. */
export async function agents(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: { json: { type: "boolean", default: false } } });
  const all = await overviewAgents();
  if (values.json) {
    console.log(JSON.stringify(all, null, 2));
    return 0;
  }
  const rows = all.map(({ name, title, version, memoryMib, keyVariable, isBuilt }) => [
    name,
    title,
    version,
    `${memoryMib} MiB`,
    keyVariable ?? "none",
    isBuilt ? "built" : "built at the first run",
  ]);
  for (const line of renderTable(["AGENT", "NAME", "VERSION", "MEMORY", "KEY", "IMAGE"], rows)) {
    console.log(line);
  }
  return 0;
}
