/**
 * `/v1/uploads`: archives for later tasks.
 *
 * @module
 */

import { addRoute, type ApiRoutes, createRoute, jsonAnswer, newRoutes, problems, z } from "../openapi.ts";
import type { TaskService } from "../task_service.ts";

const uploadRoute = createRoute({
  method: "post",
  path: "/",
  summary: "Store a tar archive that a later task's workspace is made from",
  request: {
    body: {
      required: true,
      content: { "application/x-tar": { schema: z.string().openapi({ format: "binary" }) } },
    },
  },
  responses: {
    201: jsonAnswer(
      "It waits an hour for its task",
      z.object({ id: z.string(), sizeBytes: z.int() }).openapi("Upload"),
    ),
    ...problems(413),
  },
});

/** The routes below `/v1/uploads`. */
export function uploadRoutes(service: TaskService): ApiRoutes {
  const routes = newRoutes();
  addRoute(
    routes,
    uploadRoute,
    async (context) =>
      context.json(await service.upload(context.req.raw.body, context.get("principal")), 201),
  );
  return routes;
}
