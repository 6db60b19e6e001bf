/**
 * What a token must allow for each route. A path that stands in no row takes `admin`: a route that somebody forgot here
 * is closed, not open.
 *
 * @module
 */

import type { Scope } from "./principal.ts";

/** What anybody may have: no word of anybody's is in it. */
const PUBLIC_PATHS: ReadonlySet<string> = new Set(["/", "/docs", "/openapi.json", "/healthz", "/readyz"]);
/** The page's own files. */
const PUBLIC_PREFIX = "/assets/";

interface Row {
  /** first segments of the path */
  readonly below: string;
  readonly read: readonly Scope[];
  readonly write: readonly Scope[];
}

const ROWS: readonly Row[] = [
  { below: "/v1/tasks", read: ["tasks:read"], write: ["tasks:write"] },
  { below: "/v1/uploads", read: ["tasks:write"], write: ["tasks:write"] },
  { below: "/v1/webhook-secret", read: ["tasks:write"], write: ["tasks:write"] },
  { below: "/v1/sessions", read: ["sessions:read"], write: ["sessions:write"] },
  { below: "/metrics", read: ["metrics:read"], write: ["metrics:read"] },
  { below: "/mcp", read: ["tasks:write", "sessions:write"], write: ["tasks:write", "sessions:write"] },
];

/** What of a session can be changed by a GET too: commands, terminals, and whatever listens on its ports. */
const SESSION_ACTION = /^\/v1\/sessions\/[^/]+\/(exec|connect|terminals?|pty|ports)(\/|$)/;

/** The request's facts that count. */
export interface RequestFacts {
  readonly method: string;
  /** as the router sees it */
  readonly path: string;
  readonly isUpgrade: boolean;
}

/** Scopes that a request needs, all of them (undefined: anybody may). */
export function scopesFor({ method, path, isUpgrade }: RequestFacts): readonly Scope[] | undefined {
  const isRead = (method === "GET" || method === "HEAD") && !isUpgrade;
  if (isRead && (PUBLIC_PATHS.has(path) || path.startsWith(PUBLIC_PREFIX))) return undefined;
  const row = ROWS.find(({ below }) => path === below || path.startsWith(`${below}/`));
  if (row === undefined) return ["admin"];
  return isRead && !SESSION_ACTION.test(path) ? row.read : row.write;
}
