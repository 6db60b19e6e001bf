/**
 * How failures become HTTP answers: problem JSON (RFC 9457), with the status from one table.
 *
 * @module
 */

import { HTTPException } from "hono/http-exception";
import { ZodError } from "zod";
import { GuestOperationError } from "../session/guest_connection.ts";
import { SessionError, type SessionErrorCode } from "../session/session_error.ts";

/** Codes of problems; programs act on them. */
export const PROBLEM_CODES = [
  "config",
  "unauthorized",
  "forbidden",
  "not_found",
  "conflict",
  "too_large",
  "limit_reached",
  "idempotency_mismatch",
  "bad_gateway",
  "range",
  "boot_failed",
  "boot_timeout",
  "vm_ended",
  "guest",
  "unavailable",
  "internal",
] as const;

/** A problem as it goes over the wire. */
export interface Problem {
  readonly status: number;
  readonly code: typeof PROBLEM_CODES[number];
  /** sentence for people */
  readonly detail: string;
}

const STATUS: Readonly<Record<SessionErrorCode, number>> = {
  config: 400,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  idempotency_mismatch: 422,
  bad_gateway: 502,
  limit_reached: 429,
  boot_failed: 500,
  boot_timeout: 500,
  vm_ended: 500,
};

/** A problem as a response. */
export function problemResponse(problem: Problem): Response {
  const headers = { "content-type": "application/problem+json", "cache-control": "no-store" };
  const title = problem.code.replaceAll("_", " ");
  return new Response(JSON.stringify({ type: "about:blank", title, ...problem }), {
    status: problem.status,
    headers,
  });
}

/** What SQLite says (https://www.sqlite.org/rescode.html), and what it means for whoever submits something. */
const STORE_FAILURES: readonly (readonly [RegExp, string])[] = [
  [/database (table )?is locked/, "Another process holds the database: try again"],
  [/readonly database/, "State folder is read-only: nothing can be taken"],
  [/disk I\/O error/, "State folder's disk does not take what is written to it"],
  [/disk is full/, "State folder's disk is full: nothing can be taken until there is room"],
];
const SYSTEM_FAILURES: Readonly<Record<string, string>> = {
  ENOSPC: "State folder's disk is full: nothing can be taken until there is room",
  EROFS: "State folder is read-only: nothing can be taken",
};

function describeStoreFailure(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const code = String((error as { code?: unknown }).code);
  // Deno gives SQLite's code with some of its errors only
  if (code !== "ERR_SQLITE_ERROR") {
    return Object.hasOwn(SYSTEM_FAILURES, code) ? SYSTEM_FAILURES[code] : undefined;
  }
  return STORE_FAILURES.find(([pattern]) => pattern.test(error.message))?.[1];
}

/** The response for anything thrown by a route. */
export function errorResponse(error: unknown): Response {
  if (error instanceof SessionError) {
    return problemResponse({ status: STATUS[error.code], code: error.code, detail: error.message });
  }
  if (error instanceof GuestOperationError) {
    return problemResponse({ status: 409, code: "guest", detail: error.message });
  }
  if (error instanceof ZodError) {
    const detail = error.issues.map((issue) => `${issue.path.join(".") || "body"}: ${issue.message}`).join(
      "; ",
    );
    return problemResponse({ status: 400, code: "config", detail });
  }
  if (error instanceof SyntaxError) {
    return problemResponse({ status: 400, code: "config", detail: "Body is not JSON" });
  }
  const storeProblem = describeStoreFailure(error);
  if (storeProblem !== undefined) {
    return problemResponse({ status: 503, code: "unavailable", detail: storeProblem });
  }
  if (error instanceof HTTPException && error.status < 500) {
    const detail = error.status === 415 ? "Body must be application/json" : error.message || "Bad request";
    return problemResponse({ status: error.status, code: "config", detail });
  }
  console.error(error);
  return problemResponse({ status: 500, code: "internal", detail: "Something went wrong inside the server" });
}
