/**
 * `sandbox mcp`: a server of the Model Context Protocol on stdin and stdout.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { serveMcp } from "../../local/serve_mcp.ts";

/** Runs the command and gives its exit code. */
export async function mcp(args: readonly string[]): Promise<number> {
  parseArgs({ args: [...args], options: {} });
  await serveMcp();
  return 0;
}
