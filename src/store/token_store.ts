/**
 * Tokens that requests to the service carry. A token's text is `pdk_<id>_<secret>`; of its secret only the SHA-256 is
 * stored, so that nobody who reads the database can ask for anything. Secrets are 32 random bytes: there is nothing to
 * guess, so that a slow hash would add nothing.
 *
 * @module
 */

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { DatabaseSync } from "node:sqlite";

/** A token as it is stored: everything but its secret. */
export interface TokenRow {
  readonly id: string;
  /** what its owner calls it */
  readonly name: string;
  /** what it allows, as words that the API knows */
  readonly scopes: readonly string[];
  /** ISO 8601 */
  readonly createdAt: string;
  /** ISO 8601 (null: never) */
  readonly expiresAt: string | null;
  /** ISO 8601 (null: not revoked) */
  readonly revokedAt: string | null;
  /** ISO 8601, to the minute (null: never) */
  readonly lastUsedAt: string | null;
  /** requests a minute (null: the server's default) */
  readonly ratePerMinute: number | null;
  /** tasks queued and running at once (null: the server's default) */
  readonly maxActive: number | null;
}

/** What a token is made of. */
export type NewToken = Pick<TokenRow, "name" | "scopes" | "expiresAt" | "ratePerMinute" | "maxActive">;

/** Why a token's text lets nobody in. */
export type TokenRefusal = "unknown" | "revoked" | "expired";

const TOKEN_PATTERN = /^pdk_([a-z2-7]{10})_([A-Za-z0-9_-]{43})$/;
/** How often a token's use is noted, in `ms`: not at every request. */
const USE_NOTE_MS = 60_000;
/** Compared with where there is no such token, so that the answer takes as long. */
const NO_HASH = new Uint8Array(32);

function newId(): string {
  return Array.from(randomBytes(10), (byte) => "abcdefghijklmnopqrstuvwxyz234567"[byte % 32]).join("");
}

function hashOf(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}

function textOrNull(value: unknown): string | null {
  return value === null ? null : String(value);
}

function numberOrNull(value: unknown): number | null {
  return value === null ? null : Number(value);
}

function toToken(row: Readonly<Record<string, unknown>>): TokenRow {
  return {
    id: String(row.id),
    name: String(row.name),
    scopes: String(row.scopes).split(" "),
    createdAt: String(row.created_at),
    expiresAt: textOrNull(row.expires_at),
    revokedAt: textOrNull(row.revoked_at),
    lastUsedAt: textOrNull(row.last_used_at),
    ratePerMinute: numberOrNull(row.rate_per_minute),
    maxActive: numberOrNull(row.max_active),
  };
}

/** Whether a token lets its bearer in at this moment. */
export function isValid(token: TokenRow, now = new Date()): boolean {
  return token.revokedAt === null && (token.expiresAt === null || token.expiresAt > now.toISOString());
}

/** The tokens of a database. Nothing is kept in memory: what another process revokes is refused at once. */
export class TokenStore {
  readonly #database: DatabaseSync;

  /** `database`: see `openDatabase()` */
  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** Makes a token; its text is given this once and is nowhere else. */
  create(token: NewToken): { readonly token: TokenRow; readonly text: string } {
    const [id, secret] = [newId(), randomBytes(32).toString("base64url")];
    this.#database.prepare(
      `INSERT INTO tokens (id, name, secret_sha256, scopes, created_at, expires_at, rate_per_minute, max_active)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
    ).run(
      id,
      token.name,
      hashOf(secret),
      token.scopes.join(" "),
      new Date().toISOString(),
      token.expiresAt,
      token.ratePerMinute,
      token.maxActive,
    );
    const made = this.get(id);
    if (made === undefined) throw new Error("The token that was just made is not there");
    return { token: made, text: `pdk_${id}_${secret}` };
  }

  /** One token, or undefined. */
  get(id: string): TokenRow | undefined {
    const row = this.#database.prepare("SELECT * FROM tokens WHERE id = ?").get(id);
    return row === undefined ? undefined : toToken(row);
  }

  /** All tokens, newest first. */
  list(): TokenRow[] {
    return this.#database.prepare("SELECT * FROM tokens ORDER BY created_at DESC, id").all().map(toToken);
  }

  /** Revokes a token; gives whether there is one that was not revoked before. */
  revoke(id: string): boolean {
    const { changes } = this.#database.prepare(
      "UPDATE tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
    ).run(new Date().toISOString(), id);
    return changes > 0;
  }

  /** The token of a text, or why it lets nobody in. */
  check(text: string): TokenRow | TokenRefusal {
    const [, id = "", secret = ""] = TOKEN_PATTERN.exec(text) ?? [];
    const row = this.#database.prepare("SELECT * FROM tokens WHERE id = ?").get(id);
    const stored = row?.secret_sha256 instanceof Uint8Array ? row.secret_sha256 : NO_HASH;
    const isRight = stored.length === NO_HASH.length && timingSafeEqual(hashOf(secret), stored);
    if (row === undefined || !isRight) return "unknown";
    const token = toToken(row);
    if (isValid(token)) return token;
    return token.revokedAt === null ? "expired" : "revoked";
  }

  /** Notes that a token was used, at most once a minute. */
  noteUse(token: TokenRow): void {
    const now = Date.now();
    if (token.lastUsedAt !== null && now - Date.parse(token.lastUsedAt) < USE_NOTE_MS) return;
    this.#database.prepare("UPDATE tokens SET last_used_at = ? WHERE id = ?")
      .run(new Date(now).toISOString(), token.id);
  }
}
