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
import type { ModelCredentials } from "../network/model_credentials.ts";
import { NetworkLog } from "../network/network_log.ts";
import { type AgentRunFacts, runAgent } from "./agent_run.ts";
import { AgentTerminal } from "./agent_terminal.ts";
import type { BootPhases } from "./boot_phases.ts";
import { type Changes, collectChanges } from "./changes.ts";
import { withoutControls } from "./text_tail.ts";
import { fetchAgentCommits } from "./fetch_commits.ts";
import { EventRecorder } from "./event_recorder.ts";
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
import { readFileChunks } from "./workspace_scan.ts";

/** uid and gid of the user `agent` in every image. */
const AGENT_UID = 1000;
const WORKSPACE_PATH = "/workspace";
const BOOT_TIMEOUT_MS = 120_000;
const TRANSFER_LIMIT_MS = 15 * 60_000;
/** Largest workspace that is fetched from a guest, in bytes. */
const MAX_WORKSPACE_BYTES = 8 * 1024 ** 3;
const MAX_LISTED_CHANGES = 1000;

/** Names of a task's files in its folder. */
export const TASK_FILES = {
  patch: "changes.patch",
  workspace: "workspace.tar",
  transcript: "transcript.jsonl",
  raw: "raw.jsonl",
  files: "files.tar",
  console: "console.log",
  patches: "patches.tar",
  commits: "commits.pack",
  network: "network.jsonl",
} as const;

/** Options of {@linkcode runTask}. */
export interface RunTaskOptions {
  /** id of the task, and of its session */
  readonly id: string;
  readonly request: TaskRequest;
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
      await this.#timed("upload", () => this.#putWorkspace(session));
      this.#facts = await this.#timed("agent", () => this.#runAgent(session));
      const { kind } = this.#facts.end;
      if (kind === "exited" || kind === "deadline") {
        this.#changes = await this.#timed("result", () => this.#fetchResult(session));
        this.#commits = await this.#fetchCommits(session);
      }
    } finally {
      await this.#saveConsole(session);
      if (keep && !options.signal.aborted) {
        this.#keptLog = await options.sessions.keep(session.id);
        // It has another owner now
        stack.move();
      }
    }
  }

  /** Lets others into the session. */
  #hold(session: Session, image: PreparedImage): Disposable {
    const { request, spec, sessions } = this.#options;
    if (request.interactive === true) {
      const command = spec.interactive(this.#agentTask());
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
    const { paths, baseUrl, errorShape } = spec.model;
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
      upstream: {
        baseUrl: (request.modelUrl ?? baseUrl).replace(/\/+$/, ""),
        paths,
        credentials,
        errorShape,
      },
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

  async #putWorkspace(session: Session): Promise<void> {
    const { workspaceTar } = this.#options;
    if (workspaceTar === undefined) return;
    const target = { path: WORKSPACE_PATH, uid: AGENT_UID, gid: AGENT_UID };
    await session.within(TRANSFER_LIMIT_MS, () => session.guest.put(readFileChunks(workspaceTar), target));
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
      rawPath: join(folder, TASK_FILES.raw),
      onEvent: (event) => this.#events?.add(event),
      onStderr: (text) => onEvent({ type: "stderr", text }),
    });
  }

  async #fetchResult(session: Session): Promise<Changes> {
    const { folder, workspaceTar } = this.#options;
    const afterTar = join(session.folder, "after.tar");
    await session.within(TRANSFER_LIMIT_MS, async () => {
      using file = await Deno.open(afterTar, { write: true, createNew: true, mode: 0o600 });
      for await (const chunk of session.guest.get(WORKSPACE_PATH, MAX_WORKSPACE_BYTES)) {
        for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
      }
    });
    const tempFolder = join(session.folder, "compare");
    await Deno.mkdir(tempFolder);
    return await collectChanges({
      beforeTar: workspaceTar,
      afterTar,
      tempFolder,
      patchPath: join(folder, TASK_FILES.patch),
      workspaceTarPath: join(folder, TASK_FILES.workspace),
      filesTarPath: join(folder, TASK_FILES.files),
    });
  }

  /** What the agent committed. What is wrong with it costs only the commits: the changes are there already. */
  async #fetchCommits(session: Session): Promise<TaskResult["commits"]> {
    const { folder, workspaceTar } = this.#options;
    if (workspaceTar === undefined) return null;
    const tempFolder = join(session.folder, "commits");
    await Deno.mkdir(tempFolder);
    try {
      return await fetchAgentCommits(session, {
        beforeTar: workspaceTar,
        folder: tempFolder,
        packPath: join(folder, TASK_FILES.commits),
        patchesTarPath: join(folder, TASK_FILES.patches),
      });
    } catch (error) {
      return { problem: error instanceof Error ? error.message : String(error) };
    } finally {
      await Deno.remove(tempFolder, { recursive: true });
    }
  }

  /** Whatever became of the run, the end of what the guest's kernel said is in its results. */
  async #saveConsole(session: Session): Promise<void> {
    const path = join(this.#options.folder, TASK_FILES.console);
    await Deno.writeTextFile(path, withoutControls(session.consoleText), { mode: 0o600 });
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
