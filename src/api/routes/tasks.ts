/**
 * `/v1/tasks`: one task's whole life.
 *
 * @module
 */

import { bodyLimit } from "hono/body-limit";
import { SessionError } from "../../session/session_error.ts";
import { TASK_STATES, type TaskState } from "../../store/task_state.ts";
import { openArchivedFile } from "../archived_file.ts";
import type { TaskFileKind } from "../client.ts";
import { problemResponse } from "../errors.ts";
import { eventPage, eventStream } from "../event_stream.ts";
import { addRoute, type ApiRoutes, newRoutes } from "../openapi.ts";
import { isAllowed } from "../principal.ts";
import { serveFile } from "../serve_file.ts";
import { fileRoute, TASK_ROUTES } from "../task_descriptions.ts";
import type { TaskService } from "../task_service.ts";

const MAX_SUBMISSION_BYTES = 4 * 1024 * 1024;

const CONTENT_TYPES = {
  patch: "text/x-diff",
  workspace: "application/x-tar",
  transcript: "application/jsonl",
  raw: "text/plain; charset=utf-8",
  files: "application/x-tar",
  patches: "application/x-tar",
  commits: "application/octet-stream",
  console: "text/plain; charset=utf-8",
  network: "application/jsonl",
} as const satisfies Record<TaskFileKind, string>;

function parseStates(text: string | undefined): TaskState[] | undefined {
  return text?.split(",").map((word) => {
    const state = TASK_STATES.find((known) => known === word);
    if (state !== undefined) return state;
    throw new SessionError("config", `state: "${word}" is none of ${TASK_STATES.join(", ")}`);
  });
}

function parseLabels(given: string | readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    [given].flat().map((text) => {
      const at = text.indexOf(":");
      if (at < 1) throw new SessionError("config", `label: "${text}" is not of the form name:value`);
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );
}

function parseCursor(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const position = Number(/^t([0-9]{1,15})$/.exec(text)?.[1] ?? NaN);
  if (Number.isSafeInteger(position)) return position;
  throw new SessionError("config", "cursor is not one that a list gave");
}

/** The same for equal requests, whatever the order and the spaces of their JSON. */
async function digestOf(submission: unknown): Promise<string> {
  const text = JSON.stringify(
    submission,
    (_key, value: unknown) =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1))
        : value,
  );
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toHex();
}

/** The routes below `/v1/tasks`. */
export function taskRoutes(service: TaskService): ApiRoutes {
  const routes = newRoutes();
  const limit = bodyLimit({
    maxSize: MAX_SUBMISSION_BYTES,
    onError: () => problemResponse({ status: 413, code: "too_large", detail: "Submission is too large" }),
  });
  routes.use("/", limit);
  routes.use("/:id/credentials", limit);
  // Another token's task is none
  routes.use("/:id/*", async (context, next) => {
    service.requireSeen(context.req.param("id"), context.get("principal"));
    await next();
  });
  addRoute(routes, TASK_ROUTES.submit, async (context) => {
    const submission = context.req.valid("json");
    const key = context.req.valid("header")["idempotency-key"];
    const idempotency = key === undefined ? undefined : { key, digest: await digestOf(submission) };
    const view = await service.submit(submission, { principal: context.get("principal"), idempotency });
    return context.json(view, 202, { location: `/v1/tasks/${view.id}` });
  });
  addRoute(routes, TASK_ROUTES.list, (context) => {
    const { state, agent, label, limit, cursor } = context.req.valid("query");
    const principal = context.get("principal");
    const { tasks, nextPosition } = service.list({
      tokenId: isAllowed(principal, "admin") ? undefined : principal.tokenId,
      states: parseStates(state),
      agent,
      labels: parseLabels(label),
      beforePosition: parseCursor(cursor),
      limit,
    });
    return context.json({ tasks, nextCursor: nextPosition === undefined ? null : `t${nextPosition}` });
  });
  addRoute(routes, TASK_ROUTES.get, (context) => context.json(service.view(context.req.valid("param").id)));
  addRoute(routes, TASK_ROUTES.remove, async (context) => {
    await service.remove(context.req.valid("param").id);
    return context.body(null, 204);
  });
  addRoute(
    routes,
    TASK_ROUTES.cancel,
    (context) => context.json(service.cancel(context.req.valid("param").id), 202),
  );
  addRoute(routes, TASK_ROUTES.credentials, (context) => {
    service.renewCredentials(context.req.valid("param").id, context.req.valid("json"));
    return context.body(null, 204);
  });
  addRoute(routes, TASK_ROUTES.events, async (context) => {
    const { id } = context.req.valid("param");
    const { after, wait } = context.req.valid("query");
    const afterSeq = Number(after ?? context.req.valid("header")["last-event-id"] ?? 0);
    if (wait === undefined) return eventStream((signal) => service.follow(id, afterSeq, signal));
    return eventPage(await service.events(id, afterSeq, wait * 1000), afterSeq);
  });
  addRoute(routes, TASK_ROUTES.result, (context) => {
    const { result } = service.view(context.req.valid("param").id);
    if (result !== null) return context.json(result);
    return problemResponse({ status: 409, code: "conflict", detail: "Task is not over yet" });
  });
  for (const [kind, contentType] of Object.entries(CONTENT_TYPES) as [TaskFileKind, string][]) {
    addRoute(routes, fileRoute(kind, contentType), async (context) => {
      const { range, "if-range": ifRange } = context.req.valid("header");
      const path = await service.file(context.req.valid("param").id, kind);
      return await serveFile(path, { contentType, range, ifRange });
    });
  }
  addRoute(routes, fileRoute("bundle", "application/x-tar"), async (context) => {
    const { range, "if-range": ifRange } = context.req.valid("header");
    const path = await service.bundle(context.req.valid("param").id);
    return await serveFile(path, { contentType: "application/x-tar", range, ifRange });
  });
  routes.get("/:id/files/:path{.+}", async (context) => {
    const archive = await service.file(context.req.param("id"), "files");
    const { sizeBytes, content } = await openArchivedFile(archive, context.req.param("path"));
    const headers = { "content-type": "application/octet-stream", "content-length": String(sizeBytes) };
    return new Response(content, { headers });
  });
  routes.openAPIRegistry.registerPath(TASK_ROUTES.changedFile);
  return routes;
}
