/**
 * Tools: what they are, and what they answer: bounded text, the facts beside it, and failures as errors of the tool, which a model can act on.
 *
 * @module
 */

import type { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import type { RequestHandlerExtra } from "@modelcontextprotocol/sdk/shared/protocol.js";
import type {
  CallToolResult,
  ServerNotification,
  ServerRequest,
  ToolAnnotations,
} from "@modelcontextprotocol/sdk/types.js";
import type { z } from "zod";
import { ApiError } from "../api/client.ts";

/** Longest text of one answer, in characters: a model has to read it. */
export const MAX_TEXT_LENGTH = 64 * 1024;

const MAX_ERROR_LENGTH = 4096;

/** The beginning and the end of a text that is too long. */
export function bounded(text: string, maxLength = MAX_TEXT_LENGTH): string {
  if (text.length <= maxLength) return text;
  const half = Math.floor(maxLength / 2);
  const left = text.length - 2 * half;
  return `${text.slice(0, half)}\n… ${left} characters left out …\n${text.slice(-half)}`;
}

/** An answer: `facts` as JSON, for programs as well. */
export function answer(
  facts: Record<string, unknown>,
  options: { readonly isError?: boolean } = {},
): CallToolResult {
  return {
    content: [{ type: "text", text: JSON.stringify(facts, null, 2) }],
    structuredContent: facts,
    ...(options.isError === true ? { isError: true } : {}),
  };
}

/** What the SDK hands to a tool with its arguments. */
export type CallContext = RequestHandlerExtra<ServerRequest, ServerNotification>;

/** A tool, but for what it does. */
export interface ToolFacts<S extends z.ZodObject> {
  readonly title: string;
  readonly description: string;
  readonly input: S;
  /** facts of its answers (default: they are as they come) */
  readonly output?: Readonly<Record<string, z.ZodType>>;
  readonly annotations: ToolAnnotations;
}

/** Adds a tool; what the server refuses, and what fails on the way, is the tool's error. */
export function addTool<S extends z.ZodObject>(
  server: McpServer,
  name: string,
  { input, output, ...facts }: ToolFacts<S>,
  run: (args: z.output<S>, context: CallContext) => Promise<CallToolResult>,
): void {
  const handle = async (args: unknown, context: CallContext): Promise<CallToolResult> => {
    try {
      return await run(args as z.output<S>, context);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const code = error instanceof ApiError ? ` (${error.code})` : "";
      return { content: [{ type: "text", text: bounded(message + code, MAX_ERROR_LENGTH) }], isError: true };
    }
  };
  const schemas = { inputSchema: input.shape, ...(output === undefined ? {} : { outputSchema: output }) };
  // The SDK's types are for two generations of zod at once, and infer nothing of these schemas
  server.registerTool(name, { ...facts, ...schemas } as never, handle as never);
}
