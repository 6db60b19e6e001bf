/**
 * Tools about sessions: VMs that stay until they are removed or their time is over.
 *
 * @module
 */

import type { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { z } from "zod";
import type { ApiClient, SessionView } from "../api/client.ts";
import { Progress } from "./progress.ts";
import { addTool, answer, bounded, MAX_TEXT_LENGTH } from "./tool.ts";

const MINUTE_MS = 60_000;
const MAX_OUTPUT_LENGTH = MAX_TEXT_LENGTH / 2;
const MAX_READ_BYTES = 1024 * 1024;
/** Files of this size are read where nobody says otherwise, in bytes. */
const USUAL_READ_BYTES = 48 * 1024;

const sessionSchema = {
  id: z.string(),
  state: z.string().describe("starting, running, paused, stopped or failed"),
  agent: z.string(),
  expiresAt: z.string().nullable().describe("when it is removed by itself"),
  cause: z.string().optional().describe("why it failed"),
};
const sessionId = z.string().max(40).describe("id that create_session gave");
const guestPath = z.string().regex(/^\//, "must be an absolute path").max(4096);

function summarize({ id, state, agent, expiresAt, cause }: SessionView): Record<string, unknown> {
  return { id, state, agent, expiresAt, ...(cause === undefined ? {} : { cause }) };
}

/** The first bytes of a stream; whether there are more. */
async function head(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
): Promise<{ readonly bytes: Uint8Array<ArrayBuffer>; readonly truncated: boolean }> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let left = maxBytes;
  for await (const chunk of stream) {
    chunks.push(new Uint8Array(chunk.subarray(0, left)));
    left -= chunk.length;
    if (left < 0) break;
  }
  return { bytes: await new Blob(chunks).bytes(), truncated: left < 0 };
}

/** Text as it is, anything else in Base64. */
function encode(bytes: Uint8Array, truncated: boolean): { content: string; encoding: "text" | "base64" } {
  try {
    // What was cut may end in the middle of a character
    const content = new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: truncated });
    return { content, encoding: "text" };
  } catch {
    return { content: bytes.toBase64(), encoding: "base64" };
  }
}

/** Adds the tools that make, show and end sessions. */
export function addSessionTools(server: McpServer, client: ApiClient): void {
  addTool(server, "create_session", {
    title: "Start a VM",
    description:
      "Starts a throwaway Linux microVM and waits until commands can be run in it. It is removed when its " +
      "time is over; remove it yourself when you are done.",
    input: z.object({
      agent: z.string().max(64).default("shell").describe("whose image: shell is a bare Linux"),
      memoryMib: z.int().min(128).optional(),
      cpus: z.int().min(1).default(1),
      allow: z.array(z.string()).optional().describe("hosts that it may reach; none else"),
      ttlMinutes: z.number().min(1).max(24 * 60).default(60),
    }),
    output: sessionSchema,
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
  }, async ({ ttlMinutes, allow, ...wanted }, context) => {
    using progress = new Progress(context);
    const { id } = await client.createSession({
      ...wanted,
      ttlMs: Math.round(ttlMinutes * MINUTE_MS),
      ...(allow === undefined ? {} : { network: { allow } }),
    });
    progress.tell(`Session ${id} is starting`);
    try {
      const view = await client.startedSession(id, context.signal);
      return answer(summarize(view), { isError: view.state !== "running" });
    } catch (error) {
      // Nobody was told its id
      await client.removeSession(id).catch(() => {});
      throw error;
    }
  });

  addTool(server, "list_sessions", {
    title: "List VMs",
    description: "Lists the sessions that there are.",
    input: z.object({}),
    output: { sessions: z.array(z.object(sessionSchema)) },
    annotations: { readOnlyHint: true, openWorldHint: false },
  }, async () => answer({ sessions: (await client.sessions()).slice(0, 200).map(summarize) }));

  addTool(server, "remove_session", {
    title: "Remove a VM",
    description: "Ends a session at once and removes all of it.",
    input: z.object({ sessionId }),
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  }, async ({ sessionId: id }) => {
    await client.removeSession(id);
    return answer({ removed: id });
  });
  addInsideTools(server, client);
}

/** Adds the tools that do something in a session. */
function addInsideTools(server: McpServer, client: ApiClient): void {
  addTool(server, "exec", {
    title: "Run a command in a VM",
    description: "Runs a shell command in a session and gives its exit code and what it printed.",
    input: z.object({
      sessionId,
      command: z.string().min(1).describe("for bash -lc"),
      cwd: guestPath.default("/workspace"),
      user: z.enum(["agent", "root"]).default("agent"),
      stdin: z.string().optional(),
      timeoutSeconds: z.number().min(1).max(3600).default(60),
    }),
    output: {
      exitCode: z.number().nullable().describe("null: a signal, or the time limit, ended it"),
      signal: z.number().nullable(),
      timedOut: z.boolean(),
      stdout: z.string(),
      stderr: z.string(),
      truncated: z.boolean(),
    },
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true },
  }, async ({ sessionId: id, command, timeoutSeconds, ...more }, context) => {
    using progress = new Progress(context);
    progress.tell(command);
    const timeoutMs = Math.round(timeoutSeconds * 1000);
    const request = { ...more, argv: ["bash", "-lc", "--", command], timeoutMs };
    const result = await client.runCommand(id, request, context.signal);
    const [stdout, stderr] = [
      bounded(result.stdout, MAX_OUTPUT_LENGTH),
      bounded(result.stderr, MAX_OUTPUT_LENGTH),
    ];
    const isCut = stdout !== result.stdout || stderr !== result.stderr;
    return answer({ ...result, stdout, stderr, truncated: result.truncated || isCut });
  });

  addTool(server, "read_file", {
    title: "Read a file of a VM",
    description: "Reads a file of a session: text as it is, anything else in Base64.",
    input: z.object({
      sessionId,
      path: guestPath,
      maxBytes: z.int().min(1).max(MAX_READ_BYTES).default(USUAL_READ_BYTES),
    }),
    output: { content: z.string(), encoding: z.enum(["text", "base64"]), truncated: z.boolean() },
    annotations: { readOnlyHint: true, openWorldHint: false },
  }, async ({ sessionId: id, path, maxBytes }) => {
    const { bytes, truncated } = await head(await client.readFile(id, path), maxBytes);
    return answer({ ...encode(bytes, truncated), truncated });
  });

  addTool(server, "write_file", {
    title: "Write a file of a VM",
    description:
      "Writes a file of a session, in place of the one that may be there; folders above it are made.",
    input: z.object({
      sessionId,
      path: guestPath,
      content: z.string().max(MAX_READ_BYTES * 2),
      encoding: z.enum(["text", "base64"]).default("text"),
      executable: z.boolean().default(false),
    }),
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  }, async ({ sessionId: id, path, content, encoding, executable }) => {
    const bytes = encoding === "text" ? new TextEncoder().encode(content) : Uint8Array.fromBase64(content);
    await client.writeFile(id, path, bytes, executable ? 0o755 : 0o644);
    return answer({ path, sizeBytes: bytes.length });
  });
}
