/**
 * Headers that are about one connection, and end with it.
 *
 * @module
 */

/** Names in lower case: RFC 9110 §7.6.1, with those of §11.7 for a proxy and the registry's `proxy-connection`. */
export const HOP_HEADERS: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
