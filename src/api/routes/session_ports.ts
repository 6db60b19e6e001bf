/**
 * `/v1/sessions/{id}/ports` and `/connect`: servers in a session's guest.
 *
 * @module
 */

import type { GuestStream } from "../../session/guest_client.ts";
import { addRoute, type ApiRoutes, createRoute, idParams, problems, z } from "../openapi.ts";
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

/** Adds the routes about ports. */
export function addPortRoutes(routes: ApiRoutes, sessions: SessionService): void {
  addRoute(routes, connectRoute, (context) => {
    const { id, port } = context.req.valid("param");
    const connect = async (): Promise<GuestStream> => await (await sessions.running(id)).connect(port);
    return upgradeSocket(context.req.raw, (socket) => servePort(socket, connect));
  });
}
