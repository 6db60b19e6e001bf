/**
 * The login of an agent's own client on the host (a subscription in place of a key), as data and a few functions. The
 * file stays where it is: who uses it is `src/local/login_file.ts`.
 *
 * @module
 */

import type { Json } from "./json.ts";

/** What a login's file holds. */
export interface LoginTokens {
  readonly accessToken: string;
  /** renews the others, once: the provider gives a new one with each use (undefined: there is none) */
  readonly refreshToken: string | undefined;
  /** when `accessToken` ends, in `ms` since 1970 (undefined: not known) */
  readonly expiresAtMs: number | undefined;
  /** who pays, where the provider wants that said */
  readonly accountId?: string | undefined;
}

/** A header that the gateway puts into requests to the model's API. */
export interface CredentialHeader {
  readonly name: string;
  readonly value: string;
  /** true: it is a list, and goes behind what the agent says itself (default: it takes its place) */
  readonly isListed?: boolean | undefined;
}

/** How an agent's client keeps its login, and what its provider wants. */
export interface AgentLogin {
  /** its name for people */
  readonly title: string;
  /** command that makes a new one, for messages */
  readonly command: string;
  /** folder of the file: an environment variable that names it, and its place in the home folder */
  readonly folder: { readonly variable: string; readonly inHome: string };
  readonly fileName: string;
  /** base URL of the model's API for such logins */
  readonly baseUrl: string;
  /** where tokens are renewed */
  readonly tokenUrl: string;
  /** environment variable with which the client lets itself be sent elsewhere for that (default: none) */
  readonly tokenUrlVariable?: string;
  /** the tokens in the file; undefined: it holds no login of this kind */
  read(file: Json): LoginTokens | undefined;
  /** body of the request that renews them */
  refreshRequest(refreshToken: string): Json;
  /** the file with what the provider answered; `nowMs` is the time */
  renewed(file: Json, answer: Json, nowMs: number): Json;
  /** headers of requests to the model's API */
  headers(tokens: LoginTokens): readonly CredentialHeader[];
}
