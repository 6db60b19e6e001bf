/**
 * Tells what tasks do as OpenTelemetry traces: one for each try of a task, with a span for each of its phases. Deno sends
 * them where `OTEL_DENO=true` and the usual `OTEL_EXPORTER_OTLP_…` variables say so; else this costs nothing.
 *
 * @module
 */

import { context, type Span, SpanStatusCode, trace } from "@opentelemetry/api";
import type { TaskStore } from "../store/task_store.ts";
import type { ServiceEvent } from "./schemas.ts";
import type { QueueListener } from "./queue_options.ts";

/** Makes spans of what happens to tasks. */
export class TaskTraces implements QueueListener {
  readonly #tracer = trace.getTracer("paddock");
  readonly #spans = new Map<string, Span>();
  readonly #store: TaskStore;

  constructor(store: TaskStore) {
    this.#store = store;
  }

  /** See {@linkcode QueueListener}. */
  onEvent(id: string, event: ServiceEvent): void {
    if (event.type === "state" && event.state === "preparing") return this.#start(id);
    const span = this.#spans.get(id);
    if (span === undefined) return;
    if (event.type === "phase") this.#phase(span, event.phase, event.ms);
    else if (event.type === "network" && event.decision.action === "denied") {
      span.addEvent("egress denied", { "server.address": event.decision.host });
    } else if (event.type === "state" && event.state === "queued") this.#end(id, "interrupted");
    else if (event.type === "result") this.#end(id, event.result.outcome, event.result.cause);
  }

  #start(id: string): void {
    const row = this.#store.task(id);
    if (row === undefined) return;
    const { agent } = JSON.parse(row.request) as { agent: string };
    const attributes = {
      "paddock.task.id": id,
      "paddock.agent": agent,
      "paddock.attempt": row.attempt,
      "paddock.queue_ms": Date.now() - Date.parse(row.createdAt),
    };
    this.#spans.set(id, this.#tracer.startSpan("task", { attributes, root: true }));
  }

  #phase(parent: Span, phase: string, ms: number): void {
    const endMs = Date.now();
    const span = this.#tracer.startSpan(
      `task ${phase}`,
      { startTime: endMs - ms },
      trace.setSpan(context.active(), parent),
    );
    span.end(endMs);
  }

  #end(id: string, outcome: string, cause?: string): void {
    const span = this.#spans.get(id);
    this.#spans.delete(id);
    span?.setAttribute("paddock.outcome", outcome);
    if (outcome !== "done") {
      span?.setStatus({ code: SpanStatusCode.ERROR, ...(cause === undefined ? {} : { message: cause }) });
    }
    span?.end();
  }
}
