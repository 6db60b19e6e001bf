/**
 * An HTTP server that others may reach: the front door with its bounds on connections, and before every route those who
 * ask for names and origins, for tokens, and for bodies that come to an end.
 *
 * @module
 */

import { every } from "hono/combine";
import type { Context, MiddlewareHandler } from "hono";
import { tokenAccess } from "../api/access.ts";
import { bodyGuard, type BodyLimits } from "../api/body_guard.ts";
import { originGuard } from "../api/origin_guard.ts";
import type { ApiEnv } from "../api/principal.ts";
import { type RequestEntry, requestLog } from "../api/request_log.ts";
import { settlesWithin } from "../session/settles_within.ts";
import type { TokenStore } from "../store/token_store.ts";
import { FrontDoor, type FrontLimits } from "./front_door.ts";

/** Where and how a server listens. */
export interface PublicServerOptions {
  readonly hostname: string;
  readonly port: number;
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  /** names that lead here beside those of loopback */
  readonly names: readonly string[];
  /** whoever connects is a proxy, which says in `X-Forwarded-For` who asks */
  readonly isBehindProxy: boolean;
  readonly tokens: TokenStore;
  readonly onRequest: (entry: RequestEntry) => void;
  readonly limits?: Partial<FrontLimits>;
  readonly bodyLimits?: BodyLimits;
  /** makes what answers; all of its routes must be behind `access` */
  readonly createApp: (access: MiddlewareHandler<ApiEnv>) => {
    readonly fetch: (request: Request, env: RequestEnv) => Response | Promise<Response>;
  };
}

/** What is known of a request beside what it says. */
interface RequestEnv {
  readonly remoteAddress: string;
}

function remoteAddress(context: Context): string {
  return (context.env as RequestEnv).remoteAddress;
}

/** A server that listens. */
export interface PublicServer extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  readonly connectionCount: number;
  /** Takes no more connections; requests that there are go on. */
  stopListening(): void;
}

/** Time that answers have to end when the server does, in `ms`. */
const SHUTDOWN_LIMIT_MS = 5000;

/** Whether only this machine can reach an address. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127(\.[0-9]{1,3}){3}$/.test(hostname);
}

function forwardedFor(request: Request): string | undefined {
  // The last one is what the proxy itself has seen; those before it anybody can write
  return request.headers.get("x-forwarded-for")?.split(",").at(-1)?.trim();
}

/** Listens. Throws what `Deno.listen` throws. */
export function openPublicServer(options: PublicServerOptions): PublicServer {
  const { hostname, tls, names, isBehindProxy, tokens } = options;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request, info) => {
    const { port } = info.remoteAddr;
    const address = front.addressOf(port);
    // Whoever came here past the front door has none of its bounds
    if (address === undefined) return new Response(null, { status: 403, headers: { connection: "close" } });
    front.track(port, info.completed);
    const env = { remoteAddress: isBehindProxy ? forwardedFor(request) ?? address : address };
    const response = await app.fetch(request, env);
    if (response.status === 101) front.markUpgraded(port);
    if (response.headers.get("connection") === "close") front.endAfterAnswer(port);
    return response;
  });
  const serverPort = server.addr.port;
  const front = openFront(options, serverPort, () => void server.shutdown());
  const app = options.createApp(every(
    requestLog(options.onRequest, remoteAddress),
    originGuard({ isLoopback: isLoopback(hostname), port: front.port, names }),
    bodyGuard(options.bodyLimits),
    tokenAccess({ tokens, remoteAddress }),
  ));
  const shown = hostname.includes(":") ? `[${hostname}]` : hostname;
  return {
    port: front.port,
    url: `${tls === undefined ? "http" : "https"}://${shown}:${front.port}`,
    get connectionCount(): number {
      return front.connectionCount;
    },
    stopListening: () => front.stopListening(),
    async [Symbol.asyncDispose](): Promise<void> {
      front.stopListening();
      const ended = server.shutdown();
      await settlesWithin(SHUTDOWN_LIMIT_MS, ended);
      await front[Symbol.asyncDispose]();
      await ended;
    },
  };
}

function openFront(options: PublicServerOptions, serverPort: number, undo: () => void): FrontDoor {
  const { hostname, port, tls, limits = {} } = options;
  // All that a proxy forwards comes from one address
  const perAddress = options.isBehindProxy ? { maxPerAddress: Infinity } : {};
  try {
    return new FrontDoor({ hostname, port, tls, serverPort, limits: { ...perAddress, ...limits } });
  } catch (error) {
    undo();
    throw error;
  }
}
