/**
 * The outer form of Alpine's files: gzip members one after the other, a small tar archive in each.
 *
 * @module
 */
import { inflateRawSync } from "node:zlib";
import { ImageError } from "./image_error.ts";

/** Longest content of a member that is unpacked in memory. */
const MAX_UNPACKED_BYTES = 64 * 2 ** 20;

/** Flags of a gzip header (RFC 1952 §2.3.1). */
const FHCRC = 2;
const FEXTRA = 4;
const FNAME = 8;
const FCOMMENT = 16;

/** Unpacks the first gzip member of `bytes`: its content, and the length of the member itself. @throws {ImageError} */
export function gunzipMember(bytes: Uint8Array, what: string): [content: Uint8Array, byteLength: number] {
  const start = headerLength(bytes);
  if (start === undefined) throw untrusted(`${what} is not a gzip file`);
  try {
    const options = { info: true, maxOutputLength: MAX_UNPACKED_BYTES };
    // With `info` the result is not the buffer that the declaration says; bytesWritten counts the input
    const { buffer, engine } = inflateRawSync(bytes.subarray(start), options) as unknown as {
      buffer: Uint8Array;
      engine: { bytesWritten: number };
    };
    const byteLength = start + engine.bytesWritten + 8;
    if (byteLength <= bytes.length) return [buffer, byteLength];
  } catch (cause) {
    throw untrusted(`${what} cannot be unpacked`, cause);
  }
  throw untrusted(`${what} is cut off`);
}

function headerLength(bytes: Uint8Array): number | undefined {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b || bytes[2] !== 8) return undefined;
  const flags = bytes[3] ?? 0;
  let at = 10;
  if (flags & FEXTRA) at += 2 + (bytes[at] ?? 0) + (bytes[at + 1] ?? 0) * 256;
  for (const flag of [FNAME, FCOMMENT]) {
    if (!(flags & flag)) continue;
    const end = bytes.indexOf(0, at);
    if (end < 0) return undefined;
    at = end + 1;
  }
  return flags & FHCRC ? at + 2 : at;
}

/** Plain files of a tar archive, which may lack its end. Longer names than a header holds are not expected. */
export function tarFiles(tar: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (from: number, to: number): string =>
    new TextDecoder().decode(tar.subarray(from, to)).replace(/\0.*$/s, "");
  for (let at = 0; at + 512 <= tar.length;) {
    const sizeBytes = Number.parseInt(text(at + 124, at + 136).trim() || "0", 8);
    if (Number.isNaN(sizeBytes)) break;
    const content = at + 512;
    const type = text(at + 156, at + 157);
    if (type === "0" || type === "") {
      files.set(text(at, at + 100), tar.subarray(content, content + sizeBytes));
    }
    at = content + Math.ceil(sizeBytes / 512) * 512;
  }
  return files;
}

/** The error for something that is not what Alpine published. */
export function untrusted(message: string, cause?: unknown): ImageError {
  const hint = "Do not use what this network serves as Alpine's CDN; try again on another network";
  return new ImageError("bad_checksum", message, hint, { cause });
}
