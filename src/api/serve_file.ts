/**
 * Answers with a file, or with the part of it that a request asks for (RFC 9110, section 14).
 *
 * @module
 */

import { SessionError } from "../session/session_error.ts";
import { problemResponse } from "./errors.ts";

interface ByteRange {
  readonly start: number;
  /** last byte, inclusive */
  readonly end: number;
}

/** The range that a header asks for; undefined: none, or one of a kind that may be ignored; "none": there is no such part. */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | undefined | "none" {
  const match = /^bytes=([0-9]{0,15})-([0-9]{0,15})$/.exec(header ?? "");
  const [, first = "", last = ""] = match ?? [];
  if (match === null || (first === "" && last === "")) return undefined;
  if (first === "") {
    const start = Math.max(0, sizeBytes - Number(last));
    return Number(last) === 0 || sizeBytes === 0 ? "none" : { start, end: sizeBytes - 1 };
  }
  const start = Number(first);
  const end = last === "" ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1);
  if (last !== "" && Number(last) < start) return undefined;
  return start >= sizeBytes ? "none" : { start, end };
}

/** The bytes of a file from its position on; the file is closed with the stream. */
function streamOf(file: Deno.FsFile, byteCount: number): ReadableStream<Uint8Array> {
  let left = byteCount;
  return new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      const buffer = new Uint8Array(Math.min(left, 64 * 1024));
      const count = left === 0 ? null : await file.read(buffer);
      if (count === null) {
        file.close();
        return controller.close();
      }
      left -= count;
      controller.enqueue(buffer.subarray(0, count));
    },
    cancel: () => file.close(),
  }, { highWaterMark: 0 });
}

/** What a request says of the part that it wants. */
export interface FileRequest {
  readonly contentType: string;
  /** its `Range` header */
  readonly range?: string | undefined;
  /** its `If-Range` header */
  readonly ifRange?: string | undefined;
}

/** The response with a file, or a part of it. @throws {SessionError} when it is not there */
export async function serveFile(path: string, request: FileRequest): Promise<Response> {
  const file = await Deno.open(path).catch((cause) => {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    // It was removed after it was looked up
    throw new SessionError("not_found", "It is not there any more", { cause });
  });
  const { size, mtime } = await file.stat();
  const etag = `"${size.toString(16)}-${(mtime?.getTime() ?? 0).toString(16)}"`;
  const headers = { "content-type": request.contentType, "accept-ranges": "bytes", etag };
  const isSame = request.ifRange === undefined || request.ifRange === etag;
  const range = isSame ? parseRange(request.range, size) : undefined;
  if (range === "none") {
    file.close();
    const problem = problemResponse({ status: 416, code: "range", detail: `File has ${size} bytes` });
    problem.headers.set("content-range", `bytes */${size}`);
    return problem;
  }
  const { start, end } = range ?? { start: 0, end: size - 1 };
  const byteCount = end - start + 1;
  await file.seek(start, Deno.SeekMode.Start);
  const more = range === undefined ? {} : { "content-range": `bytes ${start}-${end}/${size}` };
  return new Response(streamOf(file, byteCount), {
    status: range === undefined ? 200 : 206,
    headers: { ...headers, ...more, "content-length": String(byteCount) },
  });
}
