/**
 * What the routes of the API are described with: their answers, and the one way to add a handler to a route.
 *
 * @module
 */

import { OpenAPIHono, type RouteConfig, type RouteHandler, z } from "@hono/zod-openapi";
import { PROBLEM_CODES } from "./errors.ts";
import type { ApiEnv } from "./principal.ts";

export { createRoute, z } from "@hono/zod-openapi";

/** The routes of the API, or of a part of it. */
export type ApiRoutes = OpenAPIHono<ApiEnv>;

/** A group of routes; what does not fit a route's description becomes a problem document. */
export function newRoutes(): ApiRoutes {
  return new OpenAPIHono<ApiEnv>({
    defaultHook: (result) => {
      if (!result.success) throw result.error;
    },
  });
}

/** Context of a route's handler: `context.req.valid("json")` and the like are what the route describes. */
export type RouteContext<R extends RouteConfig> = Parameters<RouteHandler<R, ApiEnv>>[0];

/** Adds a route's handler. */
export function addRoute<R extends RouteConfig>(
  routes: ApiRoutes,
  route: R,
  handler: (context: RouteContext<R>) => Response | Promise<Response>,
): void {
  // That answers are as described is shown by the contract tests: the types would not let streams through
  routes.openapi(route, handler as unknown as RouteHandler<R, ApiEnv>);
}

const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.enum(PROBLEM_CODES),
  detail: z.string(),
}).openapi("Problem", {
  description: "What went wrong (RFC 9457). `code` is stable, `detail` is for people.",
});

const MEANINGS: Readonly<Record<number, string>> = {
  400: "The request is not as described",
  401: "There is no token, or not a valid one",
  403: "The token does not allow this",
  404: "There is no such thing, or it belongs to another token",
  409: "The state that it is in does not allow this",
  413: "Something is too large",
  415: "The body is of another type",
  416: "There is no such range",
  422: "The key was used for another request",
  429: "Too much at once",
  500: "Something went wrong inside the server",
  502: "What stands behind gave no proper answer",
  503: "The server cannot do this now",
};

type Answer = { description: string; content?: Record<string, { schema: z.ZodType }> };

/** Documented errors: those that every route can give, and these. */
export function problems(...statuses: readonly number[]): Record<number, Answer> {
  const all = new Set([400, 401, 403, 413, 415, 429, 500, 503, ...statuses]);
  const answer = (status: number): Answer => ({
    description: MEANINGS[status] ?? "Refused",
    content: { "application/problem+json": { schema: problemSchema } },
  });
  return Object.fromEntries([...all].map((status) => [status, answer(status)]));
}

/** A documented answer in JSON. */
export function jsonAnswer<S extends z.ZodType>(description: string, schema: S): Answer {
  return { description, content: { "application/json": { schema } } };
}

/** A documented answer of bytes. */
export function bytesAnswer(description: string, contentType: string): Answer {
  return {
    description,
    content: { [contentType]: { schema: z.string().openapi({ format: "binary" }) } },
  };
}

/** A documented body in JSON. */
export function jsonBody<S extends z.ZodType>(schema: S): {
  required: true;
  content: { "application/json": { schema: S } };
} {
  return { required: true, content: { "application/json": { schema } } };
}

/** The path's `{id}`. */
export const idParams: z.ZodObject<{ id: z.ZodString }> = z.object({
  id: z.string().min(1).max(40).openapi({ param: { name: "id", in: "path" } }),
});
