/**
 * One task from its request to its result: prepare the image, boot a session, copy the workspace in, run the
 * agent, fetch what it left, compare. Whatever goes wrong becomes a result that says so.
 *
 * @module
 */

import { join } from "node:path";
import type { AgentSpec, AgentTask } from "../../agent-images/agent_spec.ts";
import { parseObject } from "../../agent-images/json.ts";
import { type PreparedImage, prepareImage } from "../images/prepare.ts";
import type { GatewayDecision } from "../network/model_gateway.ts";
import type { ModelBudget } from "../network/model_budget.ts";
import { NetworkLog } from "../network/network_log.ts";
import { type AgentRunFacts, runAgent } from "./agent_run.ts";
import { AgentTerminal } from "./agent_terminal.ts";
import type { BootPhases } from "./boot_phases.ts";
import type { Changes } from "./changes.ts";
import { EventRecorder } from "./event_recorder.ts";
import { type ModelCredentials, modelUpstream } from "./model_access.ts";
import { judgeRun, type Verdict } from "./outcome.ts";
import { GATEWAY_URL, Session } from "./session.ts";
import type { SessionHolder } from "./session_holder.ts";
import {
  NOTHING_RECORDED,
  type TaskEvent,
  type TaskPhase,
  type TaskRequest,
  type TaskResult,
} from "./task.ts";
import { taskBudget, taskPolicy } from "./task_policy.ts";
import { runOnTerminal } from "./terminal_run.ts";
import { fetchChanges, fetchCommits, putWorkspace, saveConsole, TASK_FILES } from "./task_files.ts";

const BOOT_TIMEOUT_MS = 120_000;
const MAX_LISTED_CHANGES = 1000;

/** Options of {@linkcode runTask}. */
export interface RunTaskOptions {
  /** id of the task, and of its session */
  readonly id: string;
  readonly request: TaskRequest;
  /** token that it belongs to (default: this machine's own command line) */
  readonly tokenId?: string | undefined;
  readonly spec: AgentSpec;
  readonly stateDir: string;
  /** folder that the task's files go to */
  readonly folder: string;
  /** archive of the workspace (undefined: start with an empty one) */
  readonly workspaceTar: string | undefined;
  /** for the model's API; live in memory only */
  readonly credentials: ModelCredentials;
  /** what makes the image (default: {@linkcode prepareImage}) */
  readonly prepare?: typeof prepareImage | undefined;
  /** who else may use the session, and has it if it is kept */
  readonly sessions: SessionHolder;
  readonly signal: AbortSignal;
  readonly onEvent: (event: TaskEvent) => void;
}

/** A task while it runs: collects what the result will say. */
class TaskRun {
  readonly #options: RunTaskOptions;
  #bootMs: BootPhases | undefined;
  readonly #timesMs: Partial<Record<TaskPhase, number>> = {};
  readonly #modelRequests = { forwarded: 0, refused: 0, failed: 0 };
  #lastDecision: GatewayDecision | undefined;
  readonly #budget: ModelBudget;
  #image: PreparedImage | undefined;
  #facts: AgentRunFacts | undefined;
  #changes: Changes | undefined;
  #commits: TaskResult["commits"] = null;
  #networkLog: NetworkLog | undefined;
  /** of the session, once it is kept */
  #keptLog: NetworkLog | undefined;
  #terminal: AgentTerminal | undefined;
  #events: EventRecorder | undefined;

  constructor(options: RunTaskOptions) {
    this.#options = options;
    this.#budget = taskBudget(options.request, options.spec.model);
  }

  /** Runs the task; gives its result and never throws. */
  async run(): Promise<TaskResult> {
    let failure: unknown;
    try {
      await this.#runSteps();
    } catch (error) {
      failure = error;
    }
    return this.#result(this.#verdict(failure));
  }

  async #runSteps(): Promise<void> {
    const options = this.#options;
    using events = new EventRecorder({
      path: join(options.folder, TASK_FILES.transcript),
      onEvent: (event) => options.onEvent({ type: "agent", event }),
    });
    this.#events = events;
    this.#image = await this.#timed("prepare", () =>
      (options.prepare ?? prepareImage)(options.spec, {
        onProgress: (progress) => options.onEvent({ type: "prepare", progress }),
        signal: options.signal,
      }));
    await using stack = new AsyncDisposableStack();
    const session = stack.use(await this.#createSession(this.#image));
    this.#bootMs = session.bootMs;
    const { keep } = options.request;
    stack.use(this.#hold(session, this.#image));
    try {
      await this.#timed("upload", () => putWorkspace(session, options.workspaceTar));
      this.#facts = await this.#timed("agent", () => this.#runAgent(session));
      const { kind } = this.#facts.end;
      if (kind === "exited" || kind === "deadline") {
        await this.#timed("result", async () => {
          this.#changes = await fetchChanges(session, options);
          this.#commits = await fetchCommits(session, options);
        });
      }
    } finally {
      await saveConsole(session, options);
      if (keep && !options.signal.aborted) {
        this.#keptLog = await options.sessions.keep(session.id);
        // It has another owner now
        stack.move();
      }
    }
  }

  /** Lets others into the session. */
  #hold(session: Session, image: PreparedImage): Disposable {
    const { request, spec, sessions, tokenId } = this.#options;
    if (request.interactive === true) {
      const { argv, env } = spec.interactive(this.#agentTask());
      const command = { argv, env: { ...request.env, ...env } };
      this.#terminal = new AgentTerminal(command, (wanted) => session.guest.exec(wanted));
    }
    return sessions.add({
      session,
      spec,
      facts: {
        version: 1,
        id: session.id,
        agent: spec.name,
        memoryMib: request.memoryMib ?? spec.memoryMib,
        cpus: request.cpus,
        createdAt: new Date().toISOString(),
        imageKey: image.imageKey,
        ...(tokenId === undefined ? {} : { tokenId }),
      },
      policy: taskPolicy(request),
      terminal: this.#terminal,
    });
  }

  async #timed<T>(phase: TaskPhase, step: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await step();
    } finally {
      this.#phaseOver(phase, performance.now() - start);
    }
  }

  #phaseOver(phase: TaskPhase, elapsedMs: number): void {
    const ms = Math.round(elapsedMs);
    this.#timesMs[phase] = ms;
    this.#options.onEvent({ type: "phase", phase, ms });
  }

  #createSession(image: PreparedImage): Promise<Session> {
    const { id, request, spec, stateDir, credentials, signal, folder, onEvent } = this.#options;
    const policy = taskPolicy(request);
    const networkLog = new NetworkLog({
      path: join(folder, TASK_FILES.network),
      policy,
      onFirst: (decision) => onEvent({ type: "network", decision }),
    });
    this.#networkLog = networkLog;
    const { modelIdleTimeoutMs } = request;
    return Session.create({
      id,
      stateDir,
      image,
      hostname: spec.name,
      memoryMib: request.memoryMib ?? spec.memoryMib,
      cpus: request.cpus,
      bootTimeoutMs: BOOT_TIMEOUT_MS,
      upstream: modelUpstream(spec.model, request.modelUrl, credentials),
      budget: this.#budget,
      ...(modelIdleTimeoutMs === undefined ? {} : { gatewayLimits: { idleTimeoutMs: modelIdleTimeoutMs } }),
      onGateway: (decision) => {
        // The task is over: its result and its events are complete
        if (this.#keptLog !== undefined) return this.#keptLog.addModelRequest(decision);
        this.#lastDecision = decision;
        this.#modelRequests[decision.action] += 1;
        networkLog.addModelRequest(decision);
        onEvent({ type: "gateway", decision });
      },
      policy,
      networkLog: { add: (decision, count) => (this.#keptLog ?? networkLog).add(decision, count) },
      onModelRequest: this.#readTraffic(),
      onPhase: (phase, ms) => this.#phaseOver(phase, ms),
      signal,
    });
  }

  /** For agents that say nothing while they run: what they ask their model says it. */
  #readTraffic(): ((body: Uint8Array) => void) | undefined {
    const parser = this.#options.spec.newTrafficParser?.();
    if (parser === undefined) return undefined;
    return (body) => {
      if (this.#keptLog !== undefined) return;
      const events = parser.request(parseObject(new TextDecoder().decode(body)));
      for (const event of events) this.#events?.add(event);
    };
  }

  #agentTask(): Omit<AgentTask, "prompt"> {
    const { model, timeoutMs, modelIdleTimeoutMs } = this.#options.request;
    return {
      gatewayUrl: GATEWAY_URL,
      timeoutMs,
      ...(model === undefined ? {} : { model }),
      ...(modelIdleTimeoutMs === undefined ? {} : { idleTimeoutMs: modelIdleTimeoutMs }),
    };
  }

  #runAgent(session: Session): Promise<AgentRunFacts> {
    const { request, spec, folder, signal, onEvent } = this.#options;
    const limits = { timeoutMs: request.timeoutMs, signal, vmEnded: session.ended };
    if (this.#terminal !== undefined) {
      onEvent({ type: "terminal", sessionId: session.id });
      return runOnTerminal(this.#terminal, limits);
    }
    return runAgent({
      ...limits,
      guest: session.guest,
      spec,
      task: { ...this.#agentTask(), prompt: request.prompt },
      env: request.env,
      rawPath: join(folder, TASK_FILES.raw),
      onEvent: (event) => this.#events?.add(event),
      onStderr: (text) => onEvent({ type: "stderr", text }),
    });
  }

  #verdict(failure: unknown): Verdict {
    const { signal, request } = this.#options;
    if (this.#facts !== undefined) {
      const verdict = judgeRun(this.#facts, {
        timeoutMs: request.timeoutMs,
        lastDecision: this.#lastDecision,
        overBudget: this.#budget.wasExceeded,
      });
      // What went wrong after the run takes back only a success: the first cause stays.
      if (failure === undefined || verdict.outcome !== "done") return verdict;
    }
    if (signal.aborted) return { outcome: "cancelled", cause: "Task was cancelled" };
    return { outcome: "host_failed", cause: failure instanceof Error ? failure.message : String(failure) };
  }

  #result(verdict: Verdict): TaskResult {
    const facts = this.#facts;
    const network = this.#networkLog?.close();
    const changes = this.#changes;
    return {
      ...verdict,
      exitCode: facts?.exit?.exitCode ?? null,
      signal: facts?.exit?.signal ?? null,
      finalMessage: facts?.finalMessage ?? null,
      usage: facts?.usage ?? null,
      modelUsage: this.#budget.used ?? null,
      modelCostUsd: this.#budget.costUsd ?? null,
      changes: changes === undefined ? null : {
        paths: changes.paths.slice(0, MAX_LISTED_CHANGES),
        totalCount: changes.paths.length,
        ignoredCount: changes.ignoredCount,
        refusedCount: changes.refusedCount,
      },
      commits: this.#commits,
      timesMs: this.#timesMs,
      ...(this.#bootMs === undefined ? {} : { bootMs: this.#bootMs }),
      versions: this.#versions(),
      modelRequests: this.#modelRequests,
      ...(network === undefined ? {} : { network }),
      transcript: this.#events?.facts ?? NOTHING_RECORDED,
      raw: facts?.raw ?? NOTHING_RECORDED,
      ...(this.#keptLog === undefined ? {} : { keptSession: this.#options.id }),
    };
  }

  #versions(): Record<string, string> {
    const image = this.#image;
    const deno = { deno: Deno.version.deno };
    if (image === undefined) return deno;
    return {
      ...deno,
      agent: `${this.#options.spec.name} ${image.agentVersion}`,
      kernel: image.kernelVersion,
      base: `${image.base} ${image.baseVersion}`,
      image: image.imageKey,
    };
  }
}

/** Runs a task to its result; never throws. Its last event is not sent from here: the caller stores it first. */
export async function runTask(options: RunTaskOptions): Promise<TaskResult> {
  return await new TaskRun(options).run();
}
