/**
 * Tools about tasks: a coding agent runs in a VM of its own and leaves a patch.
 *
 * @module
 */

import type { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { z } from "zod";
import type { ApiClient, ServiceEvent, TaskView } from "../api/client.ts";
import { Progress } from "./progress.ts";
import { addTool, answer, bounded, type CallContext, MAX_TEXT_LENGTH } from "./tool.ts";

/** Patches are read no further than this, in bytes. */
const MAX_PATCH_BYTES = 256 * 1024;
const MAX_PATHS = 200;
const MINUTE_MS = 60_000;

const summarySchema = {
  id: z.string(),
  state: z.string().describe("queued, preparing, running, succeeded, failed, cancelled, timed_out, …"),
  cause: z.string().nullable().describe("why it ended so"),
  finalMessage: z.string().nullable().optional().describe("last thing that the agent said"),
  exitCode: z.number().nullable().optional(),
  changedFiles: z.array(z.string()).optional(),
  changedCount: z.number().optional(),
  costUsd: z.number().nullable().optional(),
  patch: z.string().optional().describe("what changed, as git diff"),
};

const OVER = new Set(["succeeded", "failed", "cancelled", "timed_out", "budget_exceeded", "interrupted"]);

/** A task as a tool's answer. */
async function summarize(client: ApiClient, view: TaskView): Promise<Record<string, unknown>> {
  const { id, state, cause, result } = view;
  if (result === null) return { id, state, cause };
  const patch = await client.readTaskFile(id, "patch", MAX_PATCH_BYTES);
  return {
    id,
    state,
    cause,
    finalMessage: result.finalMessage === null ? null : bounded(result.finalMessage, MAX_TEXT_LENGTH / 4),
    exitCode: result.exitCode,
    changedFiles: (result.changes?.paths ?? []).slice(0, MAX_PATHS).map(({ path }) => path),
    changedCount: result.changes?.totalCount ?? 0,
    costUsd: result.modelCostUsd,
    ...(patch === undefined ? {} : { patch: bounded(patch) }),
  };
}

/** What an event of a task says to somebody who waits (undefined: nothing). */
function describe(event: ServiceEvent): string | undefined {
  switch (event.type) {
    case "state":
      return event.state;
    case "phase":
      return `${event.phase} is over`;
    case "agent":
      if (event.event.type === "message") return event.event.text;
      return event.event.type === "tool_call" ? `$ ${event.event.input}` : undefined;
    default:
      return undefined;
  }
}

/** Waits for a task's end and tells of it meanwhile; a call that is cancelled cancels the task. */
async function follow(client: ApiClient, id: string, context: CallContext): Promise<void> {
  using progress = new Progress(context);
  const cancel = (): void =>
    void client.cancel(id).catch(() => {/* it is over, or nobody is there to tell */});
  // It may have been cancelled before the task was there
  if (context.signal.aborted) cancel();
  context.signal.addEventListener("abort", cancel, { once: true });
  try {
    for await (const event of client.events(id, context.signal)) {
      const said = describe(event);
      if (said !== undefined) progress.tell(said);
      if (event.type === "state" && OVER.has(event.state)) return;
    }
  } finally {
    context.signal.removeEventListener("abort", cancel);
  }
}

/** Adds the tools. */
export function addTaskTools(server: McpServer, client: ApiClient): void {
  addTool(server, "run_task", {
    title: "Run a task in a VM",
    description:
      "Runs a coding agent (or, with the agent `shell`, a shell command) on a workspace in a throwaway " +
      "microVM, waits for its end and gives what it said and a patch of what it changed.",
    input: z.object({
      agent: z.string().max(64).describe("codex, claude-code, openclaw, opencode, or shell"),
      prompt: z.string().min(1).describe("what the agent is to do; for shell, the command"),
      repo: z.object({ url: z.url(), branch: z.string().optional() }).optional()
        .describe("repository whose branch becomes the workspace"),
      files: z.record(z.string(), z.string()).optional().describe("the workspace's files, path to content"),
      model: z.string().optional(),
      allow: z.array(z.string()).optional().describe("hosts that it may reach beside its model"),
      memoryMib: z.int().optional(),
      timeoutMinutes: z.number().min(1).max(24 * 60).default(30),
      maxCostUsd: z.number().positive().optional(),
      wait: z.boolean().default(true).describe("false: give the task's id at once, for task_result"),
    }),
    output: summarySchema,
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
  }, async ({ timeoutMinutes, allow, wait, ...task }, context) => {
    const { id } = await client.submit({
      ...task,
      timeoutMs: Math.round(timeoutMinutes * MINUTE_MS),
      ...(allow === undefined ? {} : { network: { allow } }),
    });
    if (!wait) return answer(await summarize(client, await client.task(id)));
    await follow(client, id, context);
    const view = await client.task(id);
    return answer(await summarize(client, view), { isError: view.state !== "succeeded" });
  });

  addTool(server, "task_result", {
    title: "Show a task's result",
    description: "Says how a task stands, and once it is over what its agent said and changed.",
    input: z.object({ id: z.string().max(40) }),
    output: summarySchema,
    annotations: { readOnlyHint: true, openWorldHint: false },
  }, async ({ id }) => answer(await summarize(client, await client.task(id))));
}
