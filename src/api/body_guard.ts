/**
 * Bodies that never end: whoever sends one slower than this is cut off, so that a few bytes now and then do not hold a
 * connection and a handler for ever.
 *
 * @module
 */

import type { MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import { errorResponse } from "./errors.ts";
import type { ApiEnv } from "./principal.ts";

/** How slowly a body may come. */
export interface BodyLimits {
  /** longest silence, in `ms` */
  readonly idleMs: number;
  /** time in `ms` before its rate counts */
  readonly graceMs: number;
  /** lowest rate after that, in bytes a second */
  readonly bytesPerSecond: number;
}

const LIMITS: BodyLimits = { idleMs: 20_000, graceMs: 30_000, bytesPerSecond: 4096 };

function tooSlow(): HTTPException {
  return new HTTPException(408, { message: "Body came too slowly: send it again" });
}

/** Who is told how a body ends. */
interface BodyListeners {
  /** all of it came */
  readonly onEnd: () => void;
  /** it broke off, or came too slowly: what reads it may make something else of that */
  readonly onFailure: (error: HTTPException) => void;
}

/** The same bytes; fails where they come too slowly. Time in which nobody wants any does not count. */
function guardBody(
  body: ReadableStream<Uint8Array>,
  limits: BodyLimits,
  { onEnd, onFailure }: BodyListeners,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let waitedMs = 0;
  let byteCount = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      const startMs = performance.now();
      const lateMs = Math.max(0, limits.graceMs + byteCount / limits.bytesPerSecond * 1000 - waitedMs);
      const late = Promise.withResolvers<undefined>();
      const timer = setTimeout(() => late.resolve(undefined), Math.min(limits.idleMs, lateMs));
      try {
        const next = await Promise.race([reader.read(), late.promise]).catch((cause) => {
          throw new HTTPException(400, { message: "Body broke off", cause });
        });
        if (next === undefined) {
          void reader.cancel().catch(() => {/* the connection is gone already */});
          throw tooSlow();
        }
        if (next.done) {
          onEnd();
          return controller.close();
        }
        byteCount += next.value.length;
        waitedMs += performance.now() - startMs;
        controller.enqueue(next.value);
      } catch (error) {
        if (error instanceof HTTPException) onFailure(error);
        throw error;
      } finally {
        clearTimeout(timer);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}

/** Guards the bodies of all requests. */
export function bodyGuard(limits: BodyLimits = LIMITS): MiddlewareHandler<ApiEnv> {
  return async function guard(context, next): Promise<void> {
    const { raw } = context.req;
    if (raw.body === null) return await next();
    const { url, method, headers, body } = raw;
    let hasEnded = false;
    let failure: HTTPException | undefined;
    const guarded = guardBody(body, limits, {
      onEnd: () => hasEnded = true,
      onFailure: (error) => failure = error,
    });
    context.req.raw = new Request(url, { method, headers, body: guarded });
    await next();
    if (failure !== undefined && context.res.status >= 400) context.res = errorResponse(failure);
    // What is left of it would have to be read before another request
    if (!hasEnded) context.res.headers.set("connection", "close");
  };
}
