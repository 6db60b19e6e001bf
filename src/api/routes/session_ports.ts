/**
 * `/v1/sessions/{id}/ports` and `/connect`: servers in a session's guest.
 *
 * @module
 */

import type { Context } from "hono";
import type { GuestStream } from "../../session/guest_client.ts";
import { chosenProtocol } from "../access.ts";
import { addRoute, type ApiRoutes, createRoute, idParams, problems, z } from "../openapi.ts";
import type { ApiEnv } from "../principal.ts";
import { servePort } from "../session_sockets.ts";
import { upgradeSocket } from "../upgrade_socket.ts";
import type { SessionService } from "../session_service.ts";

const portParams = idParams.extend({
  port: z.coerce.number<string>().int().min(1).max(65535).openapi({ param: { name: "port", in: "path" } }),
});

const connectRoute = createRoute({
  method: "get",
  path: "/{id}/connect/{port}",
  summary: "The bytes of a TCP connection to a port of the guest, over a WebSocket",
  request: { params: portParams },
  responses: { 101: { description: "The WebSocket" }, ...problems(404, 409) },
});

const proxyRoute = createRoute({
  method: "get",
  path: "/{id}/ports/{port}/{path}",
  summary: "A request to an HTTP server in the guest, by any method, or a WebSocket to it",
  request: {
    params: portParams.extend({ path: z.string().openapi({ param: { name: "path", in: "path" } }) }),
  },
  responses: { default: { description: "What the server answers" }, ...problems(404, 409, 502) },
});

/** Adds the routes about ports. */
export function addPortRoutes(routes: ApiRoutes, sessions: SessionService): void {
  addRoute(routes, connectRoute, (context) => {
    const { id, port } = context.req.valid("param");
    const connect = async (): Promise<GuestStream> => await (await sessions.running(id)).connect(port);
    return upgradeSocket(context.req.raw, (socket) => servePort(socket, connect));
  });
  routes.openAPIRegistry.registerPath(proxyRoute);
  const proxy = async (context: Context<ApiEnv>): Promise<Response> => {
    const { id, port } = portParams.parse(context.req.param());
    const live = await sessions.running(id);
    const { pathname, search } = new URL(context.req.url);
    // As it was sent, with what is encoded in it
    const [, prefix = "", rest = ""] = /^(.*?\/ports\/[0-9]+)(\/.*)?$/.exec(pathname) ?? [];
    const path = (rest === "" ? "/" : rest) + search;
    const { raw } = context.req;
    const isSocket = raw.headers.get("upgrade")?.toLowerCase() === "websocket";
    return await (isSocket
      ? live.proxy(port).upgrade(raw, path, chosenProtocol(raw))
      : live.proxy(port).forward(raw, path, prefix));
  };
  routes.all("/:id/ports/:port", proxy);
  routes.all("/:id/ports/:port/*", proxy);
}
