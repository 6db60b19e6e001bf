/**
 * `sandbox token create|list|revoke`: who may use the service.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { createToken, openTokens, revokeToken, type TokenRow, tokenState } from "../../local/tokens.ts";
import { parseCount, parseLifetimeMs, parseRatePerMinute } from "../quantities.ts";
import { printable } from "../printable.ts";
import { formatAge, renderTable } from "../table.ts";
import { UsageError } from "../usage_error.ts";

const DEFAULT_LIFETIME = "90d";

const OPTIONS = {
  scope: { type: "string", multiple: true },
  expires: { type: "string", default: DEFAULT_LIFETIME },
  rate: { type: "string" },
  "max-active": { type: "string" },
  state: { type: "string" },
  json: { type: "boolean", default: false },
} as const;

interface Values {
  readonly scope?: string[];
  readonly expires: string;
  readonly rate?: string;
  readonly "max-active"?: string;
  readonly state?: string;
  readonly json: boolean;
}

function requireOne(words: readonly string[], usage: string): string {
  const [word, ...rest] = words;
  if (word === undefined || rest.length > 0) throw new UsageError(`Usage: ${usage}`);
  return word;
}

function optional<T>(text: string | undefined, parseIt: (text: string) => T): T | null {
  return text === undefined ? null : parseIt(text);
}

function toJson(token: TokenRow): Record<string, unknown> {
  return { ...token, state: tokenState(token) };
}

function create(words: readonly string[], values: Values): number {
  const name = requireOne(words, "sandbox token create NAME [options]");
  using tokens = openTokens(values.state);
  const { token, text } = createToken(tokens, {
    name,
    // "a,b", "a b" and several --scope are all the same
    scopes: (values.scope ?? []).flatMap((list) => list.split(/[\s,]+/)).filter((scope) => scope !== ""),
    lifetimeMs: values.expires === "never" ? null : parseLifetimeMs("--expires", values.expires),
    ratePerMinute: optional(values.rate, (rate) => parseRatePerMinute("--rate", rate)),
    maxActive: optional(values["max-active"], (count) => parseCount("--max-active", count)),
  });
  if (values.json) {
    console.log(JSON.stringify({ ...toJson(token), token: text }, null, 2));
    return 0;
  }
  // The token alone is on stdout: TOKEN=$(sandbox token create ci)
  console.log(text);
  const end = token.expiresAt === null ? "does not expire" : `expires on ${token.expiresAt.slice(0, 10)}`;
  console.error(`Token ${token.id} (${token.scopes.join(" ")}) ${end}. It is not shown again.`);
  return 0;
}

function list(words: readonly string[], values: Values): number {
  if (words.length > 0) throw new UsageError(`Unexpected argument "${words[0]}"`);
  using tokens = openTokens(values.state);
  const all = tokens.store.list();
  if (values.json) {
    console.log(JSON.stringify(all.map(toJson), null, 2));
    return 0;
  }
  const now = new Date();
  const rows = all.map((token) => [
    token.id,
    printable(token.name),
    tokenState(token),
    token.scopes.join(" "),
    token.expiresAt?.slice(0, 10) ?? "never",
    token.lastUsedAt === null ? "never" : `${formatAge(new Date(token.lastUsedAt), now)} ago`,
  ]);
  const headings = ["TOKEN", "NAME", "STATE", "SCOPES", "EXPIRES", "USED"];
  for (const line of renderTable(headings, rows)) console.log(line);
  return 0;
}

function revoke(words: readonly string[], values: Values): number {
  const id = requireOne(words, "sandbox token revoke TOKEN");
  using tokens = openTokens(values.state);
  revokeToken(tokens, id);
  console.error(`Token ${id} is revoked`);
  return 0;
}

/** Runs the command and gives its exit code. */
export function token(args: readonly string[]): Promise<number> {
  const { values, positionals: [verb, ...words] } = parseArgs({
    args: [...args],
    options: OPTIONS,
    allowPositionals: true,
  });
  const verbs: Readonly<Record<string, typeof create>> = { create, list, revoke };
  const act = verb !== undefined && Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  if (act === undefined) throw new UsageError("sandbox token takes create, list or revoke");
  return Promise.resolve(act(words, values));
}
