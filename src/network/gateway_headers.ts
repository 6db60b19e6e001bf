/**
 * Which headers cross the model gateway. The guest is not trusted to frame messages, to name a host or to
 * carry credentials: what does any of these is dropped in both directions.
 *
 * @module
 */

import type { CredentialHeader } from "../../agent-images/agent_login.ts";
import { HOP_HEADERS } from "./hop_headers.ts";

/** Headers about one connection only, and those that frame a message. */
const DROPPED_HEADERS: ReadonlySet<string> = new Set([...HOP_HEADERS, "content-length", "expect", "host"]);

/** Headers that say who pays: only the host decides that. */
const CREDENTIALS = new Set([
  "api-key",
  "authorization",
  "chatgpt-account-id",
  "cookie",
  "openai-organization",
  "openai-project",
  "x-api-key",
  "x-goog-api-key",
]);

/** Headers with which a client claims to be someone behind a proxy. */
const PROXY_CLAIMS = /^(forwarded|via|x-real-ip|x-forwarded-.*)$/;

function connectionOptions(headers: Headers): Set<string> {
  const named = (headers.get("connection") ?? "").split(",");
  return new Set(named.map((name) => name.trim().toLowerCase()));
}

/** Headers of a guest's request as they go to the provider, with the real credentials. */
export function toProviderHeaders(
  fromGuest: Headers,
  credentials: readonly CredentialHeader[],
): Headers {
  const dropped = connectionOptions(fromGuest);
  const headers = new Headers();
  for (const [name, value] of fromGuest) {
    if (DROPPED_HEADERS.has(name) || CREDENTIALS.has(name) || PROXY_CLAIMS.test(name) || dropped.has(name)) {
      continue;
    }
    headers.append(name, value);
  }
  // Compressed answers would be unpacked on the way; bytes are to pass as they are.
  headers.set("accept-encoding", "identity");
  for (const { name, value, isListed } of credentials) {
    // Values of a list are joined as RFC 9110 §5.3 has it.
    if (isListed === true) headers.append(name, value);
    else headers.set(name, value);
  }
  return headers;
}

/** Headers of a provider's answer as they go to the guest. */
export function toGuestHeaders(fromProvider: Headers): Headers {
  const dropped = connectionOptions(fromProvider);
  const headers = new Headers();
  for (const [name, value] of fromProvider) {
    if (DROPPED_HEADERS.has(name) || name === "set-cookie" || name === "location" || dropped.has(name)) {
      continue;
    }
    headers.append(name, value);
  }
  return headers;
}
