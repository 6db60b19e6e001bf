/**
 * Puts the Model Context Protocol beside a service's API, at `/mcp`. Its tools are requests to that API with the token of
 * whoever calls them: they can do what the token allows, and nothing else.
 *
 * @module
 */

import { Hono, type MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { requestId } from "hono/request-id";
import { ApiClient } from "../api/client.ts";
import { errorResponse, problemResponse } from "../api/errors.ts";
import type { ApiEnv } from "../api/principal.ts";
import { answerMcp } from "../mcp/mcp_server.ts";

/** Largest message, in bytes: a file to write is the most of it. */
const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;

/** An app that answers requests; `env` says where they come from. */
export interface RequestApp {
  fetch(request: Request, env?: object): Response | Promise<Response>;
}

/** The app with `/mcp` beside it; `access` finds out who asks. */
export function withMcp(app: RequestApp, access: MiddlewareHandler<ApiEnv>): RequestApp {
  const mcp = new Hono<ApiEnv>();
  mcp.use(requestId(), access);
  mcp.use(bodyLimit({
    maxSize: MAX_MESSAGE_BYTES,
    onError: () => problemResponse({ status: 413, code: "too_large", detail: "Message is too large" }),
  }));
  mcp.all("/mcp", async (context) => {
    const { origin, host } = new URL(context.req.url);
    const token = /^Bearer +(\S+)$/i.exec(context.req.header("authorization") ?? "")?.[1] ?? "";
    const client = new ApiClient({
      baseUrl: origin,
      token,
      // Within this process, and past no door that the token does not open
      fetch: async (url, init) => {
        const request = new Request(url, init);
        request.headers.set("host", host);
        return await app.fetch(request, context.env as object);
      },
    });
    return await answerMcp(context.req.raw, client);
  });
  mcp.onError((error) => errorResponse(error));
  return {
    fetch: (request, env) => (new URL(request.url).pathname === "/mcp" ? mcp : app).fetch(request, env),
  };
}
