/**
 * `/v1/uploads`: archives for later tasks.
 *
 * @module
 */

import { Hono } from "hono";
import type { TaskService } from "../task_service.ts";

/** The routes below `/v1/uploads`. */
export function uploadRoutes(service: TaskService): Hono {
  const routes = new Hono();
  routes.post("/", async (context) => context.json(await service.upload(context.req.raw.body), 201));
  return routes;
}
