/**
 * Paddock for other agents: a server of the Model Context Protocol that is a client of the API, over stdio or HTTP.
 *
 * @module
 */

import process from "node:process";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js";
import type { ApiClient } from "../api/client.ts";
import { addSessionTools } from "./session_tools.ts";
import { addTaskTools } from "./task_tools.ts";

const INSTRUCTIONS =
  "Runs coding agents and commands in throwaway Linux microVMs. run_task gives an agent a task and " +
  "returns a patch. create_session starts a VM for exec, read_file and write_file; remove_session ends it.";

/** A server with all tools, which it has `client` do. */
export function createMcpServer(client: ApiClient): McpServer {
  const server = new McpServer({ name: "paddock", version: "1" }, { instructions: INSTRUCTIONS });
  addTaskTools(server, client);
  addSessionTools(server, client);
  return server;
}

/** Serves this process's stdin and stdout until stdin ends. */
export async function serveMcpStdio(client: ApiClient): Promise<void> {
  const server = createMcpServer(client);
  const over = Promise.withResolvers<void>();
  server.server.onclose = (): void => over.resolve();
  const transport = new StdioServerTransport();
  await server.connect(transport);
  // The SDK itself does not look at the end of stdin
  process.stdin.once("end", () => void server.close());
  await over.promise;
}

/** Answers one request of the streamable HTTP transport. Nothing is remembered between requests. */
export async function answerMcp(request: Request, client: ApiClient): Promise<Response> {
  // There is nothing to be told between requests, and no session to end
  if (request.method !== "POST") return new Response(null, { status: 405, headers: { allow: "POST" } });
  const server = createMcpServer(client);
  const transport = new WebStandardStreamableHTTPServerTransport({});
  await server.connect(transport);
  return await transport.handleRequest(request);
}
