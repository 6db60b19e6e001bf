/**
 * Decodes a request body that may be compressed: agents send gzip or zstd for large conversations.
 *
 * @module
 */

import { gunzipSync, zstdDecompressSync } from "node:zlib";

/** Largest body taken, decoded: the cap keeps a compression bomb from eating the test machine. */
const MAX_BODY_BYTES = 256 * 1024 * 1024;

/** The body's bytes as they were before `Content-Encoding`. */
export function decodeBody(raw: Uint8Array, contentEncoding: string | null): Uint8Array {
  const options = { maxOutputLength: MAX_BODY_BYTES };
  switch (contentEncoding?.trim().toLowerCase() ?? "identity") {
    case "":
    case "identity":
      return raw;
    case "gzip":
    case "x-gzip":
      return new Uint8Array(gunzipSync(raw, options));
    case "zstd":
      return new Uint8Array(zstdDecompressSync(raw, options));
    default:
      throw new TypeError(`Cannot decode request body: unknown encoding "${contentEncoding}"`);
  }
}
