/**
 * Serves the Model Context Protocol on stdin and stdout for a service: the one that the user named, or this machine's.
 *
 * @module
 */

import { serveMcpStdio } from "../mcp/mcp_server.ts";
import { requireServer } from "./remote_server.ts";

/** Serves until stdin ends. */
export async function serveMcp(): Promise<void> {
  await serveMcpStdio(await requireServer());
}
