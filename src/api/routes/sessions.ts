/**
 * `/v1/sessions`: VMs that somebody can enter.
 *
 * @module
 */

import type { Context } from "hono";
import { type ApiRoutes, newRoutes } from "../openapi.ts";
import { SessionError } from "../../session/session_error.ts";
import { execSchema } from "../schemas.ts";
import { serveExec, servePort } from "../session_sockets.ts";
import type { SessionService } from "../session_service.ts";

const TAR = { "content-type": "application/x-tar" };

function guestPath(context: Context): string {
  const path = context.req.query("path") ?? "";
  if (path.startsWith("/") && !path.includes("\0")) return path;
  throw new SessionError("config", "path must be an absolute path in the guest");
}

function portNumber(context: Context): number {
  const port = Number(context.req.param("port"));
  if (Number.isInteger(port) && port > 0 && port < 65536) return port;
  throw new SessionError("config", "A port is a number from 1 to 65535");
}

/** The WebSocket of a request. */
function upgrade(context: Context, serve: (socket: WebSocket) => void): Response {
  if (context.req.header("upgrade")?.toLowerCase() !== "websocket") {
    throw new SessionError("config", "This is a WebSocket: the request must ask for the upgrade");
  }
  const { socket, response } = Deno.upgradeWebSocket(context.req.raw, { idleTimeout: 0 });
  serve(socket);
  return response;
}

/** The routes below `/v1/sessions`. */
export function sessionRoutes(sessions: SessionService): ApiRoutes {
  const routes = newRoutes();
  const idOf = (context: Context): string => context.req.param("id") ?? "";
  routes.get("/", async (context) => context.json(await sessions.list()));
  routes.get("/:id", async (context) => context.json(await sessions.view(idOf(context))));
  routes.delete("/:id", async (context) => {
    await sessions.remove(idOf(context));
    return context.body(null, 204);
  });
  routes.post("/:id/stop", async (context) => context.json(await sessions.stop(idOf(context))));
  routes.get("/:id/console", async (context) => context.text(await sessions.console(idOf(context))));
  routes.get("/:id/network", async (context) => {
    const file = await Deno.open(await sessions.networkJournal(idOf(context)));
    return new Response(file.readable, { headers: { "content-type": "application/jsonl" } });
  });
  routes.get("/:id/files", async (context) => {
    const chunks = await sessions.readFiles(idOf(context), guestPath(context));
    // What the guest refuses it refuses at once: that is an error and not a stream that breaks off
    const first = await chunks.next();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller): Promise<void> {
        const next = await chunks.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      },
      start(controller): void {
        if (first.done !== true) controller.enqueue(first.value);
      },
      cancel: async () => void await chunks.return(undefined),
    }, { highWaterMark: 0 });
    return new Response(body, { headers: TAR });
  });
  routes.put("/:id/files", async (context) => {
    const body = context.req.raw.body ?? new Blob([]).stream();
    await sessions.writeFiles(idOf(context), guestPath(context), body);
    return context.body(null, 204);
  });
  routes.get("/:id/exec", async (context) => {
    const id = idOf(context);
    await sessions.view(id);
    return upgrade(
      context,
      (socket) =>
        serveExec(
          socket,
          async (request, output) => await sessions.exec(id, execSchema.parse(request), output),
        ),
    );
  });
  routes.get("/:id/ports/:port", async (context) => {
    const id = idOf(context);
    const port = portNumber(context);
    await sessions.view(id);
    return upgrade(context, (socket) => servePort(socket, () => sessions.connect(id, port)));
  });
  return routes;
}
