/**
 * The model gateway: the only thing that a guest can talk to. It is an HTTP server on a Unix socket in the
 * control process; a relay in the session's network namespace brings the guest's connections to it. It lets
 * through the few requests that the agent's model API consists of, adds the key, and passes bytes both ways
 * as they come. The guest has a placeholder for a key and learns nothing else from here.
 *
 * @module
 */

import { toGuestHeaders, toProviderHeaders } from "./gateway_headers.ts";
import { meterStream, type StreamFacts, StreamLimitError } from "./metered_stream.ts";
import type { ModelBudget } from "./model_budget.ts";
import type { ModelCredentials } from "./model_credentials.ts";
import { describeFetchError, MAX_REPORTED_LENGTH, providerError, providerMessage } from "./provider_error.ts";
import { MAX_PRICED_BODY_BYTES, requestModel } from "./request_model.ts";
import { UsageReader } from "./usage_reader.ts";

/** Where requests go, and with what. */
export interface GatewayUpstream {
  /** provider's base URL, without a trailing slash */
  readonly baseUrl: string;
  /** requests that are let through; paths are appended to `baseUrl` */
  readonly paths: readonly { readonly method: string; readonly path: string }[];
  /** whose shape errors of the gateway's own have (default OpenAI's) */
  readonly errorShape?: "openai" | "anthropic";
  /** what is added to requests (default: nothing) */
  readonly credentials?: ModelCredentials;
}

/** For a guest without a model: nothing is let through. */
export const NO_UPSTREAM: GatewayUpstream = { baseUrl: "http://127.0.0.1:9", paths: [] };

/** What a guest can make the host spend. */
export interface GatewayLimits {
  /** requests in progress at once */
  readonly concurrentRequests: number;
  /** request body in bytes */
  readonly requestBytes: number;
  /** response body in bytes */
  readonly responseBytes: number;
  /** longest silence of the provider in `ms` */
  readonly idleTimeoutMs: number;
}

const DEFAULT_LIMITS: GatewayLimits = {
  concurrentRequests: 16,
  requestBytes: 64 * 1024 * 1024,
  responseBytes: 256 * 1024 * 1024,
  idleTimeoutMs: 300_000,
};

/** What became of one request of the guest. */
export interface GatewayDecision {
  readonly action: "forwarded" | "refused" | "failed";
  readonly method: string;
  /** path without its query, shortened */
  readonly path: string;
  /** status that the guest was given */
  readonly status: number;
  /** why, when it was not simply forwarded; for an error status: what the provider said */
  readonly reason?: string;
  readonly responseBytes: number;
  readonly durationMs: number;
}

/** Options of {@linkcode startModelGateway}. */
export interface GatewayOptions {
  readonly socketPath: string;
  readonly upstream: GatewayUpstream;
  readonly limits?: Partial<GatewayLimits>;
  /** counts what all answers used, and says when that is enough */
  readonly budget?: ModelBudget;
  /** told once per request, when it is over */
  readonly onDecision: (decision: GatewayDecision) => void;
  /** given the body of each request that was sent on whole, unless it is compressed or very long (default: nobody) */
  readonly onRequest?: ((body: Uint8Array) => void) | undefined;
}

/** A running gateway. */
export interface ModelGateway {
  /** Cuts every request and stops listening. */
  close(): Promise<void>;
}

const ERROR_HEAD_BYTES = 4096;
/** Longest request body that is kept for `onRequest`. */
const MAX_READ_BYTES = 8 * 1024 * 1024;

/** One request on its way through; reports its decision exactly once. */
class Passage {
  readonly #startedAt = performance.now();
  readonly #request: Request;
  readonly #url: URL;
  readonly #options: GatewayOptions;
  readonly #limits: GatewayLimits;
  /** model that is asked for, where that had to be known */
  #model: string | undefined;

  constructor(request: Request, options: GatewayOptions & { readonly limits: GatewayLimits }) {
    this.#request = request;
    this.#url = new URL(request.url);
    this.#options = options;
    this.#limits = options.limits;
  }

  /** The refusal of a request that is not to be forwarded, or undefined. */
  refusal(activeCount: number): Response | undefined {
    const { method, headers } = this.#request;
    // Agents that try a websocket first fall back to POST at once on 426.
    if (headers.has("upgrade")) return this.#refuse(426, "Upgrade is not supported");
    const allowed = this.#options.upstream.paths.filter((entry) => entry.path === this.#url.pathname);
    if (allowed.length === 0) return this.#refuse(403, "Path is not part of the model's API");
    if (!allowed.some((entry) => entry.method === method)) return this.#refuse(405, "Method not allowed");
    if (Number(headers.get("content-length") ?? 0) > this.#limits.requestBytes) {
      return this.#refuse(413, "Request is too large");
    }
    if (activeCount >= this.#limits.concurrentRequests) return this.#refuse(429, "Too many requests at once");
    const overBudget = this.#options.budget?.refusal();
    // No agent repeats a request that is forbidden.
    if (overBudget !== undefined) return this.#refuse(403, overBudget, "budget_exceeded");
    return undefined;
  }

  /** Sends the request on; `onOver` is called when its response has ended. */
  async forward(signal: AbortSignal, onOver: () => void): Promise<Response> {
    const { upstream } = this.#options;
    const isRead = this.#isRead();
    const isPriced = this.#options.budget?.limitsCost === true;
    const { requestBytes } = this.#limits;
    let requestEnd: StreamFacts["end"] | undefined;
    const stream = this.#request.body === null ? null : meterStream(this.#request.body, {
      maxBytes: isPriced ? Math.min(requestBytes, MAX_PRICED_BODY_BYTES) : requestBytes,
      idleTimeoutMs: this.#limits.idleTimeoutMs,
      keepBytes: isRead ? MAX_READ_BYTES : 0,
      onEnd: (facts) => {
        requestEnd = facts.end;
        const { head, byteCount, end } = facts;
        if (isRead && end === "complete" && byteCount === head.length) {
          this.#options.onRequest?.(head);
        }
      },
    });
    const waiting = new AbortController();
    const timer = setTimeout(
      () => waiting.abort(new StreamLimitError("No answer arrived in time", "silent")),
      this.#limits.idleTimeoutMs,
    );
    try {
      const body = isPriced && stream !== null ? await new Response(stream).bytes() : stream;
      if (body instanceof Uint8Array) {
        this.#model = requestModel(body, this.#request.headers.get("content-encoding"));
        const refusal = this.#options.budget?.priceRefusal(this.#model);
        if (refusal !== undefined) {
          onOver();
          return this.#refuse(403, refusal, "price_unknown");
        }
      }
      const response = await fetch(upstream.baseUrl + this.#url.pathname + this.#url.search, {
        method: this.#request.method,
        headers: toProviderHeaders(this.#request.headers, upstream.credentials?.headers ?? []),
        body,
        redirect: "manual",
        signal: AbortSignal.any([signal, waiting.signal]),
      });
      return this.#passOn(response, onOver);
    } catch (error) {
      onOver();
      if (requestEnd === "too_large") return this.#refuse(413, "Request is too large");
      if (waiting.signal.aborted) return this.#fail(504, "upstream_silent", "did not answer in time");
      return this.#fail(502, "upstream_unreachable", `cannot be reached: ${describeFetchError(error)}`);
    } finally {
      clearTimeout(timer);
    }
  }

  #isRead(): boolean {
    const encoding = this.#request.headers.get("content-encoding") ?? "identity";
    return this.#options.onRequest !== undefined && encoding === "identity";
  }

  #passOn(response: Response, onOver: () => void): Response {
    const { status } = response;
    const usage = new UsageReader();
    const over = (facts: StreamFacts): void => {
      onOver();
      const used = usage.end();
      if (used !== undefined) this.#options.budget?.add(used, this.#model);
      this.#decideEnd(status, facts);
    };
    const init = { status, headers: toGuestHeaders(response.headers) };
    if (response.body === null) {
      over({ end: "complete", byteCount: 0, idleMs: 0, head: new Uint8Array() });
      return new Response(null, init);
    }
    const body = meterStream(response.body, {
      maxBytes: this.#limits.responseBytes,
      idleTimeoutMs: this.#limits.idleTimeoutMs,
      keepBytes: status >= 400 ? ERROR_HEAD_BYTES : 0,
      onChunk: (chunk) => usage.push(chunk),
      onEnd: over,
    });
    return new Response(body, init);
  }

  #decideEnd(status: number, facts: StreamFacts): void {
    const idle = `${(facts.idleMs / 1000).toFixed(1)} s of silence`;
    const reasons: Record<StreamFacts["end"], string | undefined> = {
      complete: status < 400 ? undefined : providerMessage(facts.head),
      too_large: "Model API sent too much",
      silent: `Model API went silent: ended after ${idle}`,
      source_failed: "Model API cut its answer short",
      reader_gone: `Agent gave up on the answer after ${idle}`,
    };
    const reason = reasons[facts.end];
    this.#decide({
      action: facts.end === "complete" ? "forwarded" : "failed",
      status,
      ...(reason === undefined ? {} : { reason }),
      responseBytes: facts.byteCount,
    });
  }

  #refuse(status: number, reason: string, type = "gateway_refused"): Response {
    this.#decide({ action: "refused", status, reason, responseBytes: 0 });
    return providerError(this.#options.upstream.errorShape, status, { type, message: reason });
  }

  #fail(status: number, type: string, what: string): Response {
    const reason = `Model API at ${new URL(this.#options.upstream.baseUrl).origin} ${what}`;
    this.#decide({ action: "failed", status, reason, responseBytes: 0 });
    return providerError(this.#options.upstream.errorShape, status, { type, message: reason });
  }

  #decide(facts: Pick<GatewayDecision, "action" | "status" | "reason" | "responseBytes">): void {
    this.#options.onDecision({
      method: this.#request.method.slice(0, 16),
      path: this.#url.pathname.slice(0, MAX_REPORTED_LENGTH),
      durationMs: Math.round(performance.now() - this.#startedAt),
      ...facts,
    });
  }
}

/** Starts the gateway of one session. */
export function startModelGateway(options: GatewayOptions): ModelGateway {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const closing = new AbortController();
  let activeCount = 0;
  const server = Deno.serve({
    path: options.socketPath,
    signal: closing.signal,
    onListen: () => {},
    onError: () =>
      providerError(options.upstream.errorShape, 500, {
        type: "gateway_failed",
        message: "The gateway failed",
      }),
  }, (request) => {
    const passage = new Passage(request, { ...options, limits });
    const refusal = passage.refusal(activeCount);
    if (refusal !== undefined) return refusal;
    activeCount += 1;
    let isOver = false;
    return passage.forward(closing.signal, () => {
      if (!isOver) activeCount -= 1;
      isOver = true;
    });
  });
  return {
    async close(): Promise<void> {
      closing.abort();
      await server.finished;
    },
  };
}
