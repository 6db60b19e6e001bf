/**
 * Who asks: what a request may do, and whose tasks and sessions it sees.
 *
 * @module
 */

/** What a token may allow. */
export const SCOPES = [
  "tasks:read",
  "tasks:write",
  "sessions:read",
  "sessions:write",
  "metrics:read",
  /** everything, of everybody */
  "admin",
] as const;

/** One thing that a token may allow. */
export type Scope = typeof SCOPES[number];

/** Who a request comes from. */
export interface Principal {
  /** id of the token; what it makes belongs to it */
  readonly tokenId: string;
  readonly scopes: ReadonlySet<Scope>;
  /** most of its tasks that wait or run at once (undefined: no limit of its own) */
  readonly maxActive?: number | undefined;
}

/** This machine's own command line: the one user of a server that has no tokens. */
export const LOCAL_PRINCIPAL: Principal = { tokenId: "local", scopes: new Set(["admin"]) };

/** Whether a principal may do what a scope stands for. */
export function isAllowed({ scopes }: Principal, scope: Scope): boolean {
  return scopes.has(scope) || scopes.has("admin");
}

/** Whether a principal sees what belongs to a token. */
export function seesOwner({ tokenId, scopes }: Principal, ownerTokenId: string): boolean {
  return tokenId === ownerTokenId || scopes.has("admin");
}

/** What every handler finds in its context. */
export interface ApiEnv {
  Variables: { principal: Principal; requestId: string };
}
