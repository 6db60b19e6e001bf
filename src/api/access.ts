/**
 * Finds out who a request comes from, and whether it may; whoever has no token goes no further. A token comes in the
 * `Authorization` header, or, from a browser's WebSocket, which cannot set it, as a subprotocol. Nothing is ever read from
 * a cookie: a page of somebody else's can send no token that it does not have.
 *
 * @module
 */

import type { Context, MiddlewareHandler } from "hono";
import { timingSafeEqual } from "node:crypto";
import type { TokenRefusal, TokenRow, TokenStore } from "../store/token_store.ts";
import { type Problem, problemResponse } from "./errors.ts";
import { type ApiEnv, isAllowed, LOCAL_PRINCIPAL, type Principal, type Scope, SCOPES } from "./principal.ts";
import { RateLimiter } from "./rate_limiter.ts";
import { scopesFor } from "./route_scopes.ts";

/** Subprotocol of all our WebSockets, and the one that carries a token. */
export const SUBPROTOCOL = "paddock";
const BEARER_SUBPROTOCOL = "paddock.bearer.";

/** Who asks, as a server says it that has checked the token itself; believed only together with the server's own token. */
export const PRINCIPAL_HEADER = "x-paddock-principal";

/** Requests a minute of a token that says nothing else. */
const DEFAULT_RATE_PER_MINUTE = 6000;
/** Requests without a valid token that one address may send in a minute. */
const FAILURES_PER_MINUTE = 60;

/** What {@linkcode tokenAccess} works with. */
export interface TokenAccessOptions {
  readonly tokens: Pick<TokenStore, "check" | "noteUse">;
  /** address of whoever sent a request */
  readonly remoteAddress: (context: Context) => string;
  readonly limiter?: RateLimiter;
}

const REFUSALS: Readonly<Record<TokenRefusal | "missing", string>> = {
  missing: "Bearer token is missing",
  unknown: "Bearer token is wrong",
  expired: "Bearer token has expired: make a new one with sandbox token create",
  revoked: "Bearer token was revoked",
};

function withHeaders(problem: Problem, headers: Readonly<Record<string, string>>): Response {
  const response = problemResponse(problem);
  for (const [name, value] of Object.entries(headers)) response.headers.set(name, value);
  return response;
}

function unauthorized(why: keyof typeof REFUSALS): Response {
  const challenge = why === "missing" ? "" : ', error="invalid_token"';
  return withHeaders({ status: 401, code: "unauthorized", detail: REFUSALS[why] }, {
    "www-authenticate": `Bearer realm="paddock"${challenge}`,
  });
}

function tooMany(retryAfterS: number, what: string): Response {
  const detail = `${what}: try again in ${retryAfterS} s`;
  return withHeaders({ status: 429, code: "limit_reached", detail }, { "retry-after": String(retryAfterS) });
}

function isUpgrade(context: Context): boolean {
  return context.req.header("upgrade")?.toLowerCase() === "websocket";
}

/** Subprotocols that a WebSocket's client offers. */
function offeredProtocols(request: Request): string[] {
  return (request.headers.get("sec-websocket-protocol") ?? "").split(",").map((name) => name.trim());
}

/** The subprotocol to answer a WebSocket's client with (undefined: it offers none of ours). */
export function chosenProtocol(request: Request): typeof SUBPROTOCOL | undefined {
  return offeredProtocols(request).includes(SUBPROTOCOL) ? SUBPROTOCOL : undefined;
}

function tokenText(context: Context): string | undefined {
  const header = context.req.header("authorization");
  if (header !== undefined) return /^Bearer +([^\s]+)$/i.exec(header)?.[1] ?? "";
  if (!isUpgrade(context) || chosenProtocol(context.req.raw) === undefined) return undefined;
  return offeredProtocols(context.req.raw).find((name) => name.startsWith(BEARER_SUBPROTOCOL))
    ?.slice(BEARER_SUBPROTOCOL.length);
}

function toScopes(words: readonly string[]): Set<Scope> {
  return new Set(SCOPES.filter((scope) => words.includes(scope)));
}

function toPrincipal({ id, scopes, maxActive }: TokenRow): Principal {
  return { tokenId: id, scopes: toScopes(scopes), maxActive: maxActive ?? undefined };
}

/** Lets in whoever has a token that is in the database and allows what is asked for. */
export function tokenAccess(options: TokenAccessOptions): MiddlewareHandler<ApiEnv> {
  const { tokens, remoteAddress, limiter = new RateLimiter() } = options;
  return async function checkToken(context, next): Promise<Response | void> {
    const { method, path } = context.req;
    const needed = scopesFor({ method, path, isUpgrade: isUpgrade(context) });
    if (needed === undefined) return await next();
    const text = tokenText(context);
    const token = text === undefined ? "missing" : tokens.check(text);
    if (typeof token === "string") {
      // A valid token is never refused for what others at its address do
      const waitS = limiter.take(`address ${sourceOf(remoteAddress(context))}`, FAILURES_PER_MINUTE);
      return waitS === 0 ? unauthorized(token) : tooMany(waitS, "Too many requests without a valid token");
    }
    const principal = toPrincipal(token);
    context.set("principal", principal);
    const waitS = limiter.take(`token ${token.id}`, token.ratePerMinute ?? DEFAULT_RATE_PER_MINUTE);
    if (waitS > 0) return tooMany(waitS, "Too many requests with this token");
    const missing = needed.find((scope) => !isAllowed(principal, scope));
    if (missing !== undefined) {
      const detail = `This takes a token with the scope ${missing}`;
      return withHeaders({ status: 403, code: "forbidden", detail }, {
        "www-authenticate": `Bearer realm="paddock", error="insufficient_scope", scope="${needed.join(" ")}"`,
      });
    }
    noteUse(tokens, token);
    return await next();
  };
}

function noteUse(tokens: TokenAccessOptions["tokens"], token: TokenRow): void {
  try {
    tokens.noteUse(token);
  } catch {
    // A disk that is full keeps nobody from reading what is there
  }
}

/** Whoever has one address of IPv6 has a whole network of them. */
function sourceOf(address: string): string {
  return address.includes(":") ? address.split(":").slice(0, 4).join(":") : address;
}

async function digest(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}

/** Lets in whoever has the one token of a server that has no others (empty: nobody). */
export function oneToken(token: string): MiddlewareHandler<ApiEnv> {
  const expected = digest(`Bearer ${token}`);
  return async function checkToken(context, next): Promise<Response | void> {
    const header = context.req.header("authorization");
    const given = await digest(header ?? "");
    // Digests of equal length: the comparison's time says nothing about the token.
    if (token === "" || !timingSafeEqual(given, await expected)) {
      return unauthorized(header === undefined ? "missing" : "unknown");
    }
    context.set("principal", parsePrincipal(context.req.header(PRINCIPAL_HEADER)) ?? LOCAL_PRINCIPAL);
    return await next();
  };
}

/** A principal as {@linkcode PRINCIPAL_HEADER} carries it. */
export function formatPrincipal({ tokenId, scopes, maxActive }: Principal): string {
  return JSON.stringify({ tokenId, scopes: [...scopes], maxActive });
}

function parsePrincipal(text: string | undefined): Principal | undefined {
  if (text === undefined) return undefined;
  const { tokenId, scopes, maxActive } = JSON.parse(text) as {
    tokenId: string;
    scopes: string[];
    maxActive?: number;
  };
  return { tokenId, scopes: toScopes(scopes), maxActive };
}
