/**
 * Hands requests on to the server inside the emulated host: access was checked here, and the server there believes who
 * asks because of the host's own token.
 *
 * @module
 */

import { type Context, Hono, type MiddlewareHandler } from "hono";
import { requestId } from "hono/request-id";
import { formatPrincipal, PRINCIPAL_HEADER } from "../api/access.ts";
import { errorResponse, problemResponse } from "../api/errors.ts";
import { openSocketWith } from "../api/flow_socket.ts";
import type { ApiDescription } from "../api/page/docs.tsx";
import type { ApiEnv, Principal } from "../api/principal.ts";
import { HOP_HEADERS } from "../network/hop_headers.ts";
import { LocalError } from "./local_error.ts";
import { completeSubmission, isSubmission, type SubmissionOptions } from "./serve_submission.ts";
import { pageRoutes } from "../api/routes/page.ts";
import { upgradeSocket } from "../api/upgrade_socket.ts";

/** Where the server inside is. */
export interface ForwardTarget {
  readonly url: string;
  readonly token: string;
  readonly submissions: SubmissionOptions;
  /** its API, for the page about it */
  readonly description: ApiDescription;
}

/** How the host's server describes its API. */
export async function describeHost(
  { url, token }: Pick<ForwardTarget, "url" | "token">,
): Promise<ApiDescription> {
  const answer = await fetch(`${url}/openapi.json`, { headers: { authorization: `Bearer ${token}` } });
  return await answer.json() as ApiDescription;
}

/** Tells the host how much may run in it at once. */
export async function limitHost(
  target: Pick<ForwardTarget, "url" | "token">,
  limits: { readonly maxVms: number; readonly maxMemoryMib?: number | undefined },
): Promise<void> {
  const answer = await fetch(`${target.url}/host/limits`, {
    method: "PUT",
    headers: { authorization: `Bearer ${target.token}`, "content-type": "application/json" },
    body: JSON.stringify(limits),
  });
  await answer.body?.cancel();
  if (!answer.ok) {
    throw new LocalError("host", "The emulated host runs an older server: see sandbox host stop");
  }
}

/** Headers that are about one connection, or that are the server's own. */
const NOT_FORWARDED = [
  ...HOP_HEADERS,
  "accept-encoding",
  "authorization",
  "content-length",
  "expect",
  "host",
  "origin",
  PRINCIPAL_HEADER,
];
/** Whoever asks for what anybody may have: allowed nothing else. */
const NOBODY: Principal = { tokenId: "nobody", scopes: new Set() };
/** Bytes that may wait for a peer that does not keep to the flow of what it sends. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024;

function requestHeaders(context: Context<ApiEnv>, token: string): Headers {
  const headers = new Headers(context.req.raw.headers);
  for (const name of NOT_FORWARDED) headers.delete(name);
  headers.set("authorization", `Bearer ${token}`);
  headers.set(PRINCIPAL_HEADER, formatPrincipal(context.get("principal") ?? NOBODY));
  headers.set("x-request-id", context.get("requestId"));
  return headers;
}

async function forwardRequest(context: Context<ApiEnv>, target: ForwardTarget): Promise<Response> {
  const { raw, path } = context.req;
  const body = isSubmission(raw, path)
    ? await completeSubmission(raw.body, path, target.submissions)
    : raw.body;
  const { pathname, search } = new URL(raw.url);
  let answer: Response;
  try {
    answer = await fetch(target.url + pathname + search, {
      method: raw.method,
      headers: requestHeaders(context, target.token),
      body,
      redirect: "manual",
    });
  } catch {
    // Its line in the log says the rest
    const detail = "The emulated host does not answer: see sandbox host status";
    return problemResponse({ status: 503, code: "unavailable", detail });
  }
  const headers = new Headers(answer.headers);
  for (const name of ["connection", "keep-alive", "transfer-encoding"]) headers.delete(name);
  return new Response(answer.body, { status: answer.status, headers });
}

/** Carries messages to the other side; one that does not read loses its connection. */
function carry(from: WebSocket, to: WebSocket): void {
  from.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>): void => {
    if (to.readyState !== WebSocket.OPEN) return;
    to.send(data);
    if (to.bufferedAmount > MAX_WAITING_BYTES) to.close();
  };
  from.onclose = (): void => to.close();
  // What follows an error is the close
  from.onerror = (): void => {};
}

async function forwardSocket(context: Context<ApiEnv>, target: ForwardTarget): Promise<Response> {
  const { pathname, search } = new URL(context.req.url);
  const headers: Record<string, string> = {
    authorization: `Bearer ${target.token}`,
    [PRINCIPAL_HEADER]: formatPrincipal(context.get("principal") ?? NOBODY),
  };
  const inner = openSocketWith(target.url + pathname + search, headers);
  inner.binaryType = "arraybuffer";
  const isOpen = await new Promise<boolean>((resolve) => {
    inner.onopen = (): void => resolve(true);
    inner.onclose = inner.onerror = (): void => resolve(false);
  });
  // Asked for without the upgrade, it says why
  if (!isOpen) return await forwardRequest(context, target);
  return upgradeSocket(context.req.raw, (socket) => join(inner, socket));
}

/** Carries messages between the two, in both directions. */
function join(inner: WebSocket, socket: WebSocket): void {
  socket.binaryType = "arraybuffer";
  // What comes before the client's side is open waits here
  const early: (string | ArrayBuffer)[] = [];
  inner.onmessage = ({ data }): void => void early.push(data);
  inner.onclose = (): void => socket.close();
  socket.onopen = (): void => {
    for (const data of early) socket.send(data);
    carry(inner, socket);
    carry(socket, inner);
    if (inner.readyState !== WebSocket.OPEN) socket.close();
  };
  socket.onclose = (): void => inner.close();
}

/** Makes the app that hands everything on. */
export function createForward(target: ForwardTarget, access: MiddlewareHandler<ApiEnv>): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>();
  app.use(requestId());
  app.use(access);
  // Its files need not come from an emulated machine
  app.route("/", pageRoutes(() => target.description));
  app.all("*", async (context) => {
    const isUpgrade = context.req.header("upgrade")?.toLowerCase() === "websocket";
    return isUpgrade ? await forwardSocket(context, target) : await forwardRequest(context, target);
  });
  app.onError((error) => errorResponse(error));
  return app;
}
