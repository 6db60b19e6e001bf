/**
 * A scripted stand-in for a model provider that speaks the OpenAI Responses protocol over HTTP, so that the
 * real agents can be driven without a key. `sandbox run --demo` uses it, and so do the tests, which also use
 * its faults and its log of requests.
 *
 * @module
 */

import { parseConversation } from "./conversation.ts";
import { respond } from "./fault_response.ts";
import { decodeBody } from "./request_body.ts";
import { answerEvents } from "./responses_stream.ts";
import { DEFAULT_SCRIPT, routePath, type Script } from "./script.ts";

/** One request as it arrived. */
export interface LoggedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** decoded body (empty for none) */
  readonly body: string;
}

/** Options of {@linkcode startModelServer}. */
export interface ModelServerOptions {
  /** script of requests that name none in their URL (default: writes hello.txt) */
  readonly script?: Script;
  /** key that requests must carry as a bearer token (default: any) */
  readonly requiredKey?: string;
  /** TCP port (default: any free one) */
  readonly port?: number;
}

/** A running model server. */
export interface ModelServer {
  /** base URL without a path or a trailing slash */
  readonly url: string;
  /** every request so far, oldest first */
  readonly requests: readonly LoggedRequest[];
  /** Ends all streams and stops listening. */
  close(): Promise<void>;
}

function errorResponse(status: number, message: string): Response {
  return Response.json({ error: { message, type: "invalid_request_error", param: null, code: null } }, {
    status,
  });
}

async function handle(
  request: Request,
  options: { log: LoggedRequest[]; settings: ModelServerOptions; signal: AbortSignal },
): Promise<Response> {
  const { log, settings } = options;
  const route = routePath(new URL(request.url).pathname);
  const raw = new Uint8Array(await request.arrayBuffer());
  const body = new TextDecoder().decode(decodeBody(raw, request.headers.get("content-encoding")));
  log.push({ method: request.method, path: route.path, headers: Object.fromEntries(request.headers), body });

  // Agents try a websocket first and fall back to POST at once on this status, but not on others.
  if (request.headers.get("upgrade") !== null) return errorResponse(426, "Upgrade is not supported");
  if (!route.path.endsWith("/responses")) return errorResponse(404, `No such path: ${route.path}`);
  if (request.method !== "POST") return errorResponse(405, "Method not allowed");
  const { requiredKey } = settings;
  if (requiredKey !== undefined && request.headers.get("authorization") !== `Bearer ${requiredKey}`) {
    return errorResponse(401, "Incorrect API key provided");
  }

  const conversation = parseConversation(JSON.parse(body));
  const fault = route.fault !== undefined && conversation.toolResultCount >= route.fault.fromTurn
    ? route.fault
    : undefined;
  const events = answerEvents(conversation, route.script ?? settings.script ?? DEFAULT_SCRIPT);
  return respond(events, { fault, signal: options.signal });
}

/** Starts a model server on the loopback interface. */
export function startModelServer(settings: ModelServerOptions = {}): ModelServer {
  const log: LoggedRequest[] = [];
  const closing = new AbortController();
  const server = Deno.serve({
    hostname: "127.0.0.1",
    port: settings.port ?? 0,
    onListen: () => {},
    onError: (error) => errorResponse(400, error instanceof Error ? error.message : String(error)),
  }, (request) => handle(request, { log, settings, signal: closing.signal }));
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    requests: log,
    async close(): Promise<void> {
      closing.abort();
      await server.shutdown();
    },
  };
}
