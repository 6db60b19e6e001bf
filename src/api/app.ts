/**
 * The HTTP API. Every request carries the server's token; the server listens on the loopback interface.
 *
 * @module
 */

import { Hono } from "hono";
import { timingSafeEqual } from "node:crypto";
import { errorResponse, problemResponse } from "./errors.ts";
import { sessionRoutes } from "./routes/sessions.ts";
import { taskRoutes } from "./routes/tasks.ts";
import { uploadRoutes } from "./routes/uploads.ts";
import type { TaskService } from "./task_service.ts";

/** What an app is made from. */
export interface AppOptions {
  readonly service: TaskService;
  /** bearer token that each request must carry */
  readonly token: string;
}

async function digest(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

/** Makes the app. */
export function createApp(options: AppOptions): Hono {
  const expected = digest(`Bearer ${options.token}`);
  const app = new Hono();
  app.use(async function checkToken(context, next): Promise<Response | void> {
    const given = await digest(context.req.header("authorization") ?? "");
    // Digests of equal length: the comparison's time says nothing about the token.
    if (options.token !== "" && timingSafeEqual(given, await expected)) return await next();
    return problemResponse({ status: 401, code: "unauthorized", detail: "Bearer token is missing or wrong" });
  });
  app.route("/v1/tasks", taskRoutes(options.service));
  app.route("/v1/sessions", sessionRoutes(options.service.sessions));
  app.route("/v1/uploads", uploadRoutes(options.service));
  app.notFound(() => problemResponse({ status: 404, code: "not_found", detail: "There is no such page" }));
  app.onError((error) => errorResponse(error));
  return app;
}
