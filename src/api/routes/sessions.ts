/**
 * `/v1/sessions`: VMs that somebody can enter.
 *
 * @module
 */

import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { problemResponse } from "../errors.ts";
import {
  addRoute,
  type ApiRoutes,
  bytesAnswer,
  createRoute,
  idParams,
  jsonAnswer,
  jsonBody,
  newRoutes,
  problems,
  z,
} from "../openapi.ts";
import { runCommand } from "../run_command.ts";
import {
  execSchema,
  runResultSchema,
  runSchema,
  sessionPatchSchema,
  sessionSubmissionSchema,
  sessionViewSchema,
} from "../session_schemas.ts";
import type { SessionService } from "../session_service.ts";
import { serveExec } from "../session_sockets.ts";
import { upgradeSocket } from "../upgrade_socket.ts";
import { addFileRoutes } from "./session_files.ts";
import { addPortRoutes } from "./session_ports.ts";

/** Largest body in JSON, in bytes: what a command reads is the most of it. */
const MAX_BODY_BYTES = 4 * 1024 * 1024;

/** In place of a terminal's id: there is none yet. */
const NEW_TERMINAL = "new";
/** How soon the loss of a terminal's connection is noticed, in seconds. */
const TERMINAL_IDLE_SECONDS = 30;

const ONE = { params: idParams };
const asView = (description: string): ReturnType<typeof jsonAnswer> =>
  jsonAnswer(description, sessionViewSchema);

const createSessionRoute = createRoute({
  method: "post",
  path: "/",
  summary: "Ask for a session: a VM without a task",
  request: { body: jsonBody(sessionSubmissionSchema) },
  responses: { 202: asView("It is starting"), ...problems(404, 409, 413) },
});

const listRoute = createRoute({
  method: "get",
  path: "/",
  summary: "All sessions, those with a VM first",
  responses: { 200: jsonAnswer("The sessions", z.array(sessionViewSchema)), ...problems() },
});

const getRoute = createRoute({
  method: "get",
  path: "/{id}",
  summary: "One session",
  request: ONE,
  responses: { 200: asView("The session"), ...problems(404) },
});

const patchRoute = createRoute({
  method: "patch",
  path: "/{id}",
  summary: "Extend a session's time, or cut it short",
  request: { ...ONE, body: jsonBody(sessionPatchSchema) },
  responses: { 200: asView("The session, with its new end"), ...problems(404, 409, 413) },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/{id}",
  summary: "End a session at once and remove all of it",
  request: ONE,
  responses: { 204: { description: "It is gone" }, ...problems(404, 409) },
});

const VERBS = {
  stop: "Power a session off; its disk stays until the session is removed",
  pause: "Stop a session's CPUs; its memory stays and its time runs on",
  resume: "Let a paused session go on",
} as const;

const verbRoute = (verb: keyof typeof VERBS) =>
  createRoute({
    method: "post",
    path: `/{id}/${verb}`,
    summary: VERBS[verb],
    request: ONE,
    responses: { 200: asView("The session as it is now"), ...problems(404, 409) },
  });

const consoleRoute = createRoute({
  method: "get",
  path: "/{id}/console",
  summary: "The end of what a session's kernel printed",
  request: ONE,
  responses: { 200: bytesAnswer("The text", "text/plain"), ...problems(404) },
});

const networkRoute = createRoute({
  method: "get",
  path: "/{id}/network",
  summary: "What a session's network did, one JSON object a line",
  request: ONE,
  responses: { 200: bytesAnswer("The journal", "application/jsonl"), ...problems(404, 409) },
});

const runRoute = createRoute({
  method: "post",
  path: "/{id}/exec",
  summary: "Run a command in a session and wait for its end",
  request: { ...ONE, body: jsonBody(runSchema) },
  responses: { 200: jsonAnswer("How it ended", runResultSchema), ...problems(404, 409, 413) },
});

const execRoute = createRoute({
  method: "get",
  path: "/{id}/exec",
  summary: "A command's streams, or a terminal, over a WebSocket",
  request: {
    ...ONE,
    query: z.object({
      terminal: z.string().max(40).optional().openapi({
        description: "Terminal to come back to, or `new`: the command will be started with `detachable`",
      }),
      after: z.coerce.number().int().min(0).default(0).openapi({
        description: "Bytes of its output that were seen",
      }),
    }),
  },
  responses: {
    101: { description: "The WebSocket: its first message says what to run" },
    ...problems(404, 409),
  },
});

/** The routes below `/v1/sessions`. */
export function sessionRoutes(sessions: SessionService): ApiRoutes {
  const routes = newRoutes();
  const limit = bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: () => problemResponse({ status: 413, code: "too_large", detail: "Body is too large" }),
  });
  for (const path of ["/", "/:id", "/:id/exec"]) routes.use(path, limit);
  // Whose it is decides whether it is there, for all that follows
  routes.use("/:id/*", async (context, next) => {
    await sessions.requireSeen(context.req.param("id"), context.get("principal"));
    await next();
  });
  const idOf = (context: Context): string => context.req.param("id") ?? "";
  addRoute(routes, createSessionRoute, async (context) => {
    const view = await sessions.create(context.req.valid("json"), context.get("principal"));
    return context.json(view, 202, { location: `/v1/sessions/${view.id}` });
  });
  addRoute(routes, listRoute, async (context) => context.json(await sessions.list(context.get("principal"))));
  addRoute(routes, getRoute, async (context) => context.json(await sessions.view(idOf(context))));
  addRoute(routes, patchRoute, async (context) => {
    const { ttlMs } = context.req.valid("json");
    return context.json(await sessions.setTtl(idOf(context), ttlMs));
  });
  addRoute(routes, deleteRoute, async (context) => {
    await sessions.remove(idOf(context));
    return context.body(null, 204);
  });
  addRoute(routes, verbRoute("stop"), async (context) => context.json(await sessions.stop(idOf(context))));
  for (const [verb, isPaused] of [["pause", true], ["resume", false]] as const) {
    addRoute(
      routes,
      verbRoute(verb),
      async (context) => context.json(await sessions.setPaused(idOf(context), isPaused)),
    );
  }
  addRoute(
    routes,
    consoleRoute,
    async (context) => context.text(await sessions.console(idOf(context))),
  );
  addRoute(routes, networkRoute, async (context) => {
    const file = await Deno.open(await sessions.networkJournal(idOf(context)));
    return new Response(file.readable, { headers: { "content-type": "application/jsonl" } });
  });
  addRoute(routes, runRoute, async (context) => {
    const live = await sessions.running(idOf(context));
    return context.json(await runCommand(live, context.req.valid("json"), context.req.raw.signal));
  });
  addRoute(routes, execRoute, (context) => {
    const id = idOf(context);
    const { terminal, after } = context.req.valid("query");
    const isBack = terminal !== undefined && terminal !== NEW_TERMINAL;
    // That it does not run is said over the WebSocket: clients see nothing of a refused upgrade
    const serve = (socket: WebSocket): void =>
      serveExec(socket, async (message, sink) => {
        const live = await sessions.running(id);
        if (isBack) return live.terminals.attach(terminal, sink, after);
        const request = execSchema.parse(message);
        return await (request.detachable ? live.openTerminal(request, sink) : live.exec(request, sink));
      }, { isBack });
    return upgradeSocket(context.req.raw, serve, terminal === undefined ? 0 : TERMINAL_IDLE_SECONDS);
  });
  addFileRoutes(routes, sessions);
  addPortRoutes(routes, sessions);
  return routes;
}
