/**
 * What the service says about itself to Prometheus.
 *
 * @module
 */

import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { exitsByCause, type VmEnd } from "../session/vm_end.ts";
import { TASK_STATES } from "../store/task_state.ts";
import type { ServiceEvent } from "./schemas.ts";
import type { QueueListener } from "./queue_options.ts";
import type { TaskService } from "./task_service.ts";

const SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200];
const MIB = 1024 * 1024;

/** Counts what happens in a service from now on. */
export class ServiceMetrics implements QueueListener {
  readonly #registry = new Registry();
  readonly #service: TaskService;
  readonly #phases = new Histogram({
    name: "paddock_task_phase_seconds",
    help: "Duration of each phase of tasks",
    labelNames: ["phase"],
    buckets: SECONDS,
    registers: [this.#registry],
  });
  readonly #boot = new Histogram({
    name: "paddock_boot_phase_seconds",
    help: "Duration of each phase of the boot of VMs",
    labelNames: ["phase"],
    buckets: SECONDS,
    registers: [this.#registry],
  });
  readonly #queueTime = new Histogram({
    name: "paddock_task_queue_seconds",
    help: "Time from the acceptance of a task to its turn",
    buckets: SECONDS,
    registers: [this.#registry],
  });
  readonly #outcomes = new Counter({
    name: "paddock_task_ends_total",
    help: "Tasks that are over, by outcome",
    labelNames: ["outcome"],
    registers: [this.#registry],
  });
  readonly #denials = new Counter({
    name: "paddock_egress_denials_total",
    help: "Different things that guests tried to reach and could not",
    labelNames: ["protocol"],
    registers: [this.#registry],
  });
  readonly #modelRequests = new Counter({
    name: "paddock_model_requests_total",
    help: "Requests of guests to their model's API",
    labelNames: ["action"],
    registers: [this.#registry],
  });
  readonly #vmEnds = new Counter({
    name: "paddock_vm_ends_total",
    help:
      "VMs that ended, by how: powered off, reset, killed (as each whose task is over), or what went wrong",
    labelNames: ["reason"],
    registers: [this.#registry],
  });
  readonly #exits = new Counter({
    name: "paddock_vm_exits_total",
    help: "Exits of guests to their monitors, by cause, counted when the VM ends",
    labelNames: ["cause"],
    registers: [this.#registry],
  });

  constructor(service: TaskService) {
    this.#service = service;
    service.sessions.onVmEnd = (end) => this.#countVm(end);
    this.#gauge("paddock_tasks", "Tasks by state", "state", (set) => {
      const counts = service.store.counts();
      for (const state of TASK_STATES) set(counts[state] ?? 0, state);
    });
    this.#gauge("paddock_vms", "VMs that run, of tasks and of sessions", "kind", (set) => {
      set(service.queue.runningCount, "task");
      set(service.sessions.keptCount, "session");
    });
    this.#gauge("paddock_vm_memory_bytes", "RAM that VMs may use", "kind", (set) => {
      set(service.queue.memoryMib * MIB, "task");
      set(service.sessions.keptMemoryMib * MIB, "session");
    });
    this.#gauge("paddock_server_memory_bytes", "Memory of the server itself", "kind", (set) => {
      const { rss, heapUsed } = Deno.memoryUsage();
      set(rss, "resident");
      set(heapUsed, "heap");
    });
    service.queue.listen(this);
  }

  /** See {@linkcode QueueListener}. */
  onEvent(id: string, event: ServiceEvent): void {
    if (event.type === "phase") this.#phases.observe({ phase: event.phase }, event.ms / 1000);
    else if (event.type === "state" && event.state === "preparing") {
      const createdAt = this.#service.store.task(id)?.createdAt;
      if (createdAt !== undefined) this.#queueTime.observe((Date.now() - Date.parse(createdAt)) / 1000);
    } else if (event.type === "network" && event.decision.action === "denied") {
      this.#denials.inc({ protocol: event.decision.protocol });
    } else if (event.type === "gateway") this.#modelRequests.inc({ action: event.decision.action });
    else if (event.type === "result") {
      this.#outcomes.inc({ outcome: event.result.outcome });
      for (const [phase, ms] of Object.entries(event.result.bootMs ?? {})) {
        if (typeof ms === "number") this.#boot.observe({ phase }, ms / 1000);
      }
    }
  }

  /** All of it in Prometheus' text format. */
  async text(): Promise<string> {
    return await this.#registry.metrics();
  }

  /** type of {@linkcode text} */
  get contentType(): string {
    return this.#registry.contentType;
  }

  #countVm(end: VmEnd): void {
    this.#vmEnds.inc({ reason: end.type === "stopped" ? end.reason : end.type });
    for (const [cause, count] of exitsByCause(end)) this.#exits.inc({ cause }, count);
  }

  #gauge(
    name: string,
    help: string,
    label: string,
    collect: (set: (value: number, label: string) => void) => void,
  ): void {
    const gauge: Gauge<string> = new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [this.#registry],
      collect: () => collect((value, of) => gauge.set({ [label]: of }, value)),
    });
  }
}
