/**
 * A scripted stand-in for model providers: speaks OpenAI's Responses and Chat Completions and Anthropic's Messages over
 * HTTP, so that the real agents can be driven without a key. `sandbox run --demo` uses it, and so do the tests, which also use
 * its faults and its log of requests.
 *
 * @module
 */

import { chat } from "./chat.ts";
import { respond } from "./fault_response.ts";
import { messages } from "./messages.ts";
import { decodeBody } from "./request_body.ts";
import { responses } from "./responses.ts";
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
  /** key that requests must carry, as a bearer token or in `x-api-key` (default: any) */
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

const DIALECTS = [responses, messages, chat];

/** Whether a request carries the key, the way that one of the providers wants it. */
function hasKey({ headers }: Request, key: string): boolean {
  return headers.get("authorization") === `Bearer ${key}` || headers.get("x-api-key") === key;
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
  const dialect = DIALECTS.find(({ pathEnd }) => route.path.endsWith(pathEnd));
  if (dialect === undefined) return errorResponse(404, `No such path: ${route.path}`);
  if (request.method !== "POST") return errorResponse(405, "Method not allowed");
  const { requiredKey } = settings;
  if (requiredKey !== undefined && !hasKey(request, requiredKey)) {
    return Response.json(dialect.error(401, "Incorrect API key provided"), { status: 401 });
  }

  const turn = dialect.read(JSON.parse(body));
  const fault = route.fault !== undefined && turn.toolResultCount >= route.fault.fromTurn
    ? route.fault
    : undefined;
  const answer = turn.answer(route.script ?? settings.script ?? DEFAULT_SCRIPT);
  return respond(answer, { dialect, isPlain: turn.isPlain, fault, signal: options.signal });
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
