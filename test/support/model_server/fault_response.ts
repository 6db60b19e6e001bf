/**
 * Turns the events of an answer into a response, with a fault in it where one is asked for.
 *
 * @module
 */

import type { Answer, Dialect } from "./dialect.ts";
import type { Fault } from "./script.ts";

/** Events that still arrive before a cut or a silence. */
const EVENTS_BEFORE_FAULT = 3;
const SLOW_DELAY_MS = 200;

const STATUS_MESSAGES: Readonly<Record<number, string>> = {
  400: "Invalid request (scripted)",
  401: "Incorrect API key provided (scripted)",
  403: "Access denied (scripted)",
  404: "Model not found (scripted)",
  429: "Rate limit reached (scripted)",
  500: "The server had an error (scripted)",
  503: "The server is overloaded (scripted)",
};

function statusResponse(status: number, dialect: Dialect): Response {
  return Response.json(dialect.error(status, STATUS_MESSAGES[status] ?? `Scripted status ${status}`), {
    status,
  });
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    if (signal.aborted) done();
    else signal.addEventListener("abort", done, { once: true });
  });
}

class CutError extends Error {
  override readonly name = "CutError";
}

async function* faultyEvents(
  { events, failure }: Answer,
  options: { fault: Fault | undefined; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const { fault, signal } = options;
  for (const [index, event] of events.entries()) {
    if (signal.aborted) return;
    if (fault !== undefined && index === EVENTS_BEFORE_FAULT) {
      if (fault.kind === "cut") throw new CutError("Cut on purpose");
      if (fault.kind === "silent") await new Promise<void>((resolve) => onAbort(signal, resolve));
      if (fault.kind === "failed") {
        yield failure;
        return;
      }
    }
    if (fault?.kind === "slow") await delay(SLOW_DELAY_MS, signal);
    yield event;
    // An empty wait lets each event go out in a chunk of its own, as from a real provider.
    await delay(0, signal);
  }
}

function onAbort(signal: AbortSignal, run: () => void): void {
  if (signal.aborted) run();
  else signal.addEventListener("abort", run, { once: true });
}

/** The response for an answer; `signal` ends a silent stream when the server closes. */
export function respond(
  answer: Answer,
  options: {
    readonly dialect: Dialect;
    readonly isPlain: boolean;
    readonly fault: Fault | undefined;
    readonly signal: AbortSignal;
  },
): Response {
  const { fault, dialect, isPlain } = options;
  if (fault?.kind === "status") return statusResponse(fault.status, dialect);
  if (isPlain && fault === undefined) return Response.json(answer.plain);
  const gone = new AbortController();
  const source = faultyEvents(answer, { fault, signal: AbortSignal.any([options.signal, gone.signal]) });
  const body = new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      try {
        if (fault?.kind === "reset") throw new CutError("Reset on purpose");
        const next = await source.next();
        if (next.done === true) controller.close();
        else controller.enqueue(next.value);
      } catch (error) {
        controller.error(error);
      }
    },
    async cancel(): Promise<void> {
      gone.abort();
      await source.return(undefined);
    },
  });
  return new Response(body, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}
