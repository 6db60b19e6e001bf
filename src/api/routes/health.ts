/**
 * How the server is: for whoever starts it, and for whoever watches it.
 *
 * @module
 */

import { isWritable } from "../../store/database.ts";
import { problemResponse } from "../errors.ts";
import type { ServiceMetrics } from "../metrics.ts";
import { addRoute, type ApiRoutes, createRoute, jsonAnswer, newRoutes, problems, z } from "../openapi.ts";
import { isAllowed } from "../principal.ts";
import type { TaskService } from "../task_service.ts";

const healthRoute = createRoute({
  method: "get",
  path: "/healthz",
  summary: "The server answers",
  security: [],
  responses: { 200: jsonAnswer("It does", z.object({ status: z.literal("ok") })) },
});

const readyRoute = createRoute({
  method: "get",
  path: "/readyz",
  summary: "The server takes tasks",
  security: [],
  responses: {
    200: jsonAnswer("It does", z.object({ status: z.literal("ready") })),
    503: problems()[503] ?? { description: "It does not" },
  },
});

const metricsRoute = createRoute({
  method: "get",
  path: "/metrics",
  summary: "Figures for Prometheus",
  responses: {
    200: { description: "Text format 0.0.4", content: { "text/plain": { schema: z.string() } } },
    ...problems(404),
  },
});

/** `/healthz` and `/readyz`: they say nothing that needs a token. */
export function healthRoutes({ store, queue }: TaskService): ApiRoutes {
  const routes = newRoutes();
  addRoute(routes, healthRoute, (context) => context.json({ status: "ok" }));
  addRoute(routes, readyRoute, (context) => {
    const problem = queue.isClosing
      ? "Server is about to end"
      : isWritable(store.database)
      ? undefined
      : "State folder cannot be written: see whether its disk is full or read-only";
    if (problem === undefined) return context.json({ status: "ready" });
    return problemResponse({ status: 503, code: "unavailable", detail: problem });
  });
  return routes;
}

/** `/metrics`. */
export function metricsRoutes(metrics: ServiceMetrics | undefined): ApiRoutes {
  const routes = newRoutes();
  if (metrics === undefined) return routes;
  addRoute(routes, metricsRoute, async (context) => {
    if (!isAllowed(context.get("principal"), "metrics:read")) {
      return problemResponse({
        status: 403,
        code: "forbidden",
        detail: "This token lacks the scope metrics:read",
      });
    }
    return new Response(await metrics.text(), { headers: { "content-type": metrics.contentType } });
  });
  return routes;
}
