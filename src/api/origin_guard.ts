/**
 * Keeps the pages of other sites out: a name of theirs that leads to this machine (DNS rebinding), and requests that they
 * make a browser send. What is answered a browser takes for what it is called and for nothing else.
 *
 * @module
 */

import type { MiddlewareHandler } from "hono";
import { problemResponse } from "./errors.ts";
import type { ApiEnv } from "./principal.ts";

const LOOPBACK_NAME = /^(localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])$/;

/** The page needs its own files and sockets. */
const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
  "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** What tasks and sessions left or sent may be hostile: it is never a page of ours. */
const CONTENT_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'";

/** What {@linkcode originGuard} works with. */
export interface OriginGuardOptions {
  /** only this machine can reach the server: names of others that lead here are somebody's trick */
  readonly isLoopback: boolean;
  readonly port: number;
  /** names that lead here beside those of loopback, without ports */
  readonly names: readonly string[];
}

function splitHost(host: string): { readonly name: string; readonly port: string } {
  const [, name = "", port = ""] = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::([0-9]{1,5}))?$/i.exec(host) ?? [];
  return { name: name.toLowerCase().replace(/\.$/, ""), port };
}

/** Whether a `Host` header names this server. */
export function isOwnHost(host: string, { isLoopback, port, names }: OriginGuardOptions): boolean {
  const { name, port: given } = splitHost(host);
  if (name === "") return false;
  // Whoever named the server may have another port of a proxy before it
  if (names.some((known) => known.toLowerCase() === name)) return true;
  if (!isLoopback) return names.length === 0;
  return LOOPBACK_NAME.test(name) && given === String(port);
}

/** Whether an `Origin` header is the server's own page. */
export function isOwnOrigin(origin: string, host: string): boolean {
  return origin === `http://${host}` || origin === `https://${host}`;
}

/** Why a request is not for this server, or not from a page of its own (undefined: it is). */
function refusal(request: Request, options: OriginGuardOptions): string | undefined {
  const host = request.headers.get("host") ?? "";
  const origin = request.headers.get("origin");
  // A request line may name a host of its own
  const isSame = URL.canParse(request.url) && sameHost(new URL(request.url).host, host);
  if (!isSame || !isOwnHost(host, options)) {
    return "This server does not have that name: start it with --host NAME if it should";
  }
  const isOwn = origin === null || isOwnOrigin(origin.toLowerCase(), host.toLowerCase());
  return isOwn ? undefined : "Pages of other origins may not use this server";
}

/** Refuses requests for other hosts and from other origins, and sets the headers that bind a browser. */
export function originGuard(options: OriginGuardOptions): MiddlewareHandler<ApiEnv> {
  return async function checkOrigin(context, next): Promise<void> {
    const detail = refusal(context.req.raw, options);
    if (detail === undefined) await next();
    else context.res = problemResponse({ status: 403, code: "forbidden", detail });
    setHeaders(context.res, context.req.path);
  };
}

function sameHost(one: string, other: string): boolean {
  const withoutDefault = (host: string): string => host.toLowerCase().replace(/:(80|443)$/, "");
  return withoutDefault(one) === withoutDefault(other);
}

function setHeaders(response: Response, path: string): void {
  // A WebSocket's answer is taken as it is
  if (response.status === 101) return;
  response.headers.set("x-content-type-options", "nosniff");
  response.headers.set("referrer-policy", "no-referrer");
  response.headers.set("cross-origin-resource-policy", "same-origin");
  response.headers.set("x-frame-options", "DENY");
  const isContent = path.startsWith("/v1/");
  response.headers.set("content-security-policy", isContent ? CONTENT_POLICY : PAGE_POLICY);
}
