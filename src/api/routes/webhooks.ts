/**
 * `/v1/webhook-secret`: what proves that a call about a task comes from this server.
 *
 * @module
 */

import { addRoute, type ApiRoutes, createRoute, jsonAnswer, newRoutes, problems, z } from "../openapi.ts";
import type { TaskService } from "../task_service.ts";

const secretRoute = createRoute({
  method: "get",
  path: "/",
  summary: "The secret that calls about this token's tasks are signed with (Standard Webhooks 1.0)",
  responses: { 200: jsonAnswer("The secret", z.object({ secret: z.string() })), ...problems() },
});

/** The route at `/v1/webhook-secret`. */
export function webhookRoutes(service: TaskService): ApiRoutes {
  const routes = newRoutes();
  addRoute(
    routes,
    secretRoute,
    (context) => context.json({ secret: service.webhookSecret(context.get("principal")) }),
  );
  return routes;
}
