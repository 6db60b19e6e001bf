/**
 * One line for each request: who asked for what, and how it went. Queries are left out: they may say more than whoever
 * reads the log may know.
 *
 * @module
 */

import type { Context, MiddlewareHandler } from "hono";
import type { ApiEnv } from "./principal.ts";

/** What is logged of a request. */
export interface RequestEntry {
  readonly requestId: string;
  /** id of the token (null: there was no valid one) */
  readonly tokenId: string | null;
  readonly address: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** time until the answer began, in `ms` */
  readonly ms: number;
  /** task that it is about (null: none) */
  readonly taskId: string | null;
}

const TASK_PATH = /^\/v1\/tasks\/([a-z0-9]{1,40})(?:\/|$)/;
const MAX_PATH_LENGTH = 500;

/** Calls `log` when the answer to a request begins. */
export function requestLog(
  log: (entry: RequestEntry) => void,
  remoteAddress: (context: Context) => string,
): MiddlewareHandler<ApiEnv> {
  return async function logRequest(context, next): Promise<void> {
    const startMs = performance.now();
    const address = remoteAddress(context);
    const { method, path } = context.req;
    await next();
    const made = TASK_PATH.exec(context.res.headers.get("location") ?? "");
    log({
      requestId: context.get("requestId"),
      tokenId: context.get("principal")?.tokenId ?? null,
      address,
      method,
      path: path.slice(0, MAX_PATH_LENGTH),
      status: context.res.status,
      ms: Math.round((performance.now() - startMs) * 10) / 10,
      taskId: (TASK_PATH.exec(path) ?? made)?.[1] ?? null,
    });
  };
}
