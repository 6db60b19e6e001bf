/**
 * The tokens of a state folder, for the command line and the server.
 *
 * @module
 */

import { join } from "node:path";
import { type Scope, SCOPES } from "../api/principal.ts";
import { stateDir } from "../images/paths.ts";
import { openDatabase } from "../store/database.ts";
import { isValid, type TokenRow, TokenStore } from "../store/token_store.ts";
import { LocalError } from "./local_error.ts";

export type { TokenRow } from "../store/token_store.ts";

/** Folder of this user's state. */
export function defaultStateDir(): string {
  return stateDir();
}

/** Scopes of a token that is made without saying which. */
export const DEFAULT_SCOPES: readonly Scope[] = [
  "tasks:read",
  "tasks:write",
  "sessions:read",
  "sessions:write",
];

/** What a user says about a token to be made. */
export interface TokenRequest {
  readonly name: string;
  readonly scopes: readonly string[];
  /** in `ms` (null: it does not end) */
  readonly lifetimeMs: number | null;
  readonly ratePerMinute: number | null;
  readonly maxActive: number | null;
}

/** The tokens of one state folder. */
export interface Tokens extends Disposable {
  readonly store: TokenStore;
}

/** Opens the tokens of a state folder (default: this user's). */
export function openTokens(folder = stateDir()): Tokens {
  const path = join(folder, "paddock.sqlite");
  try {
    Deno.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const database = openDatabase(path);
    return { store: new TokenStore(database), [Symbol.dispose]: () => database.close() };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new LocalError("host", `Cannot open the database "${path}": ${why}`, { cause });
  }
}

/** Makes a token; `text` is what its bearer sends, and is given this once. */
export function createToken(
  tokens: Tokens,
  request: TokenRequest,
): { readonly token: TokenRow; readonly text: string } {
  const { name, scopes, lifetimeMs, ratePerMinute, maxActive } = request;
  if (!/^[\x20-\x7e]{1,100}$/.test(name)) {
    throw new LocalError("usage", "A token's name is 1 to 100 printable ASCII characters");
  }
  const known = scopes.length === 0 ? DEFAULT_SCOPES : scopes.map(toScope);
  const expiresAt = lifetimeMs === null ? null : new Date(Date.now() + lifetimeMs).toISOString();
  return tokens.store.create({ name, scopes: [...new Set(known)], expiresAt, ratePerMinute, maxActive });
}

/** Revokes a token; a server that runs refuses it from then on. */
export function revokeToken(tokens: Tokens, id: string): void {
  if (tokens.store.revoke(id)) return;
  const [shown, there] = [id.slice(0, 40), tokens.store.get(id)];
  const what = there === undefined ? `There is no token "${shown}"` : `Token "${shown}" is revoked already`;
  throw new LocalError("usage", `${what}: see sandbox token list`);
}

function toScope(text: string): Scope {
  const scope = SCOPES.find((name) => name === text);
  if (scope !== undefined) return scope;
  throw new LocalError("usage", `There is no scope "${text}": there are ${SCOPES.join(", ")}`);
}

/** What a token is at this moment. */
export function tokenState(token: TokenRow): "valid" | "expired" | "revoked" {
  if (isValid(token)) return "valid";
  return token.revokedAt === null ? "expired" : "revoked";
}
