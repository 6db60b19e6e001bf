/**
 * The HTTP API: every route, described in OpenAPI, behind whoever says who may use it.
 *
 * @module
 */

import type { MiddlewareHandler } from "hono";
import { requestId } from "hono/request-id";
import { oneToken } from "./access.ts";
import { errorResponse, problemResponse } from "./errors.ts";
import { type ApiRoutes, newRoutes } from "./openapi.ts";
import type { ApiEnv } from "./principal.ts";
import type { ServiceMetrics } from "./metrics.ts";
import type { ApiDescription } from "./page/docs.tsx";
import { healthRoutes, metricsRoutes } from "./routes/health.ts";
import { pageRoutes } from "./routes/page.ts";
import { sessionRoutes } from "./routes/sessions.ts";
import { taskRoutes } from "./routes/tasks.ts";
import { uploadRoutes } from "./routes/uploads.ts";
import { webhookRoutes } from "./routes/webhooks.ts";
import type { TaskService } from "./task_service.ts";

/** What an app is made from. */
export interface AppOptions {
  readonly service: TaskService;
  /** bearer token that each request must carry, in a server that has no others */
  readonly token?: string;
  /** finds out who asks, in place of `token` */
  readonly access?: MiddlewareHandler<ApiEnv>;
  /** serves the page at `/` (default: there is none) */
  readonly hasPage?: boolean;
  /** what `/metrics` says (default: there is no such page) */
  readonly metrics?: ServiceMetrics;
}

const TITLE = { title: "Paddock", version: "1" };

/** Makes the app. */
export function createApp(options: AppOptions): ApiRoutes {
  const app = newRoutes();
  app.use(requestId());
  app.route("/", healthRoutes(options.service));
  app.use(options.access ?? oneToken(options.token ?? ""));
  const document = { openapi: "3.1.0", info: TITLE, security: [{ token: [] }] };
  const description = (): ApiDescription => app.getOpenAPI31Document(document) as unknown as ApiDescription;
  if (options.hasPage === true) app.route("/", pageRoutes(description));
  app.route("/v1/tasks", taskRoutes(options.service));
  app.route("/v1/sessions", sessionRoutes(options.service.sessions));
  app.route("/v1/uploads", uploadRoutes(options.service));
  app.route("/v1/webhook-secret", webhookRoutes(options.service));
  app.route("/", metricsRoutes(options.metrics));
  app.openAPIRegistry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
  app.doc31("/openapi.json", document);
  app.notFound(() => problemResponse({ status: 404, code: "not_found", detail: "There is no such page" }));
  app.onError((error) => errorResponse(error));
  return app;
}
