/**
 * Errors in the shapes of providers: the gateway's own are written so, that agents show their message, and those of
 * providers are read.
 *
 * @module
 */

import { object, parseObject } from "../../agent-images/json.ts";

/** Longest message that is taken over from elsewhere, in characters. */
export const MAX_REPORTED_LENGTH = 300;

/** An error as a provider writes it (default: OpenAI). */
export function providerError(
  shape: "openai" | "anthropic" | undefined,
  status: number,
  { type, message }: { readonly type: string; readonly message: string },
): Response {
  const body = shape === "anthropic"
    ? { type: "error", error: { type, message } }
    : { error: { message, type, param: null, code: type } };
  return Response.json(body, { status });
}

/** What a provider's error body says, if it can be read: JSON, and not cut. */
export function providerMessage(head: Uint8Array): string | undefined {
  const error = parseObject(new TextDecoder().decode(head))?.error;
  const message = typeof error === "string" ? error : object(error).message;
  return typeof message === "string" ? message.slice(0, MAX_REPORTED_LENGTH) : undefined;
}

/** Why a request did not get to the provider. */
export function describeFetchError(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return (cause instanceof Error ? cause.message : String(cause)).slice(0, MAX_REPORTED_LENGTH);
}
