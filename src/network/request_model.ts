/**
 * Finds the model that a request asks for, in a body that the guest may have compressed.
 *
 * @module
 */

import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { parseObject } from "../../agent-images/json.ts";

/** Largest body, as it comes and unpacked: a limit of cost has it read as a whole before it is sent on. */
export const MAX_PRICED_BODY_BYTES = 16 * 1024 * 1024;

function unpack(body: Uint8Array, encoding: string): Uint8Array | undefined {
  // A guest's archive could be a bomb.
  const options = { maxOutputLength: MAX_PRICED_BODY_BYTES };
  if (encoding === "identity") return body;
  if (encoding === "gzip") return gunzipSync(body, options);
  if (encoding === "zstd") return zstdDecompressSync(body, options);
  return undefined;
}

/** The request's `model`; undefined: it names none, or cannot be read. */
export function requestModel(body: Uint8Array, encoding: string | null): string | undefined {
  let text: string;
  try {
    text = new TextDecoder().decode(unpack(body, encoding?.trim().toLowerCase() ?? "identity"));
  } catch {
    return undefined; // not what it says it is, or too large
  }
  const model = parseObject(text)?.model;
  return typeof model === "string" && model !== "" ? model : undefined;
}
