/**
 * `/v1/tasks`: one task's whole life.
 *
 * @module
 */

import type { Context } from "hono";
import { type ApiRoutes, newRoutes } from "../openapi.ts";
import { bodyLimit } from "hono/body-limit";
import { problemResponse } from "../errors.ts";
import { eventStream } from "../event_stream.ts";
import { credentialsSchema, submissionSchema } from "../schemas.ts";
import type { TaskFileKind } from "../client.ts";
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

function lastEventId(context: Context): number {
  const id = Number(context.req.header("last-event-id") ?? 0);
  return Number.isSafeInteger(id) && id > 0 ? id : 0;
}

/** The routes below `/v1/tasks`. */
export function taskRoutes(service: TaskService): ApiRoutes {
  const routes = newRoutes();
  const limit = bodyLimit({
    maxSize: MAX_SUBMISSION_BYTES,
    onError: () => problemResponse({ status: 413, code: "too_large", detail: "Submission is too large" }),
  });
  routes.post("/", limit, async (context) => {
    const view = await service.submit(submissionSchema.parse(await context.req.json()));
    return context.json(view, 202, { location: `/v1/tasks/${view.id}` });
  });
  routes.get("/", (context) => context.json(service.list()));
  routes.get("/:id", (context) => context.json(service.view(context.req.param("id"))));
  routes.delete("/:id", async (context) => {
    await service.remove(context.req.param("id"));
    return context.body(null, 204);
  });
  routes.post("/:id/cancel", (context) => context.json(service.cancel(context.req.param("id")), 202));
  routes.put("/:id/credentials", limit, async (context) => {
    service.renewCredentials(context.req.param("id"), credentialsSchema.parse(await context.req.json()));
    return context.body(null, 204);
  });
  routes.get("/:id/events", (context) => {
    const id = context.req.param("id");
    service.view(id);
    return eventStream((signal) => service.follow(id, lastEventId(context), signal));
  });
  routes.get("/:id/result", (context) => {
    const { result } = service.view(context.req.param("id"));
    if (result !== null) return context.json(result);
    return problemResponse({ status: 409, code: "conflict", detail: "Task is not over yet" });
  });
  for (const [kind, contentType] of Object.entries(CONTENT_TYPES) as [TaskFileKind, string][]) {
    routes.get(`/:id/${kind}`, async (context) => {
      const file = await Deno.open(await service.file(context.req.param("id"), kind));
      const { size } = await file.stat();
      const headers = { "content-type": contentType, "content-length": String(size) };
      return new Response(file.readable, { headers });
    });
  }
  return routes;
}
