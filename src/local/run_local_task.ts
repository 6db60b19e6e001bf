/**
 * One task on this machine from the user's wishes to the files in the output folder: finds a host, prepares
 * the image, packs the workspace, submits, follows, fetches, and leaves nothing behind.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import type { PriceTable } from "../../agent-images/model_price.ts";
import { startModelServer } from "../../test/support/model_server/model_server.ts";
import type { ApiClient, TimedTaskEvent } from "../api/client.ts";
import type { OnProgress } from "../images/progress.ts";
import type { EgressRequest } from "../network/egress_policy.ts";
import { taskBudget } from "../session/task_policy.ts";
import { AGENT_NAMES, findAgent } from "../session/agents.ts";
import { SessionError } from "../session/session_error.ts";
import type { TaskResult } from "../session/task.ts";
import { LocalError } from "./local_error.ts";
import { type LocalHost, openLocalHost } from "./local_host.ts";
import { packWorkspace } from "./pack_workspace.ts";
import { DEMO_KEY, type ModelAccess, openModelAccess } from "./model_access.ts";
import { readPrices } from "./price_file.ts";
import { networkRequest } from "./project_egress.ts";
import { remoteServer } from "./remote_server.ts";
import { checkResultPlaces, type ResultPlaces, writeResults } from "./result_files.ts";
import { type RepositoryOptions, TaskRepository } from "./task_repository.ts";

const HOST_WORDS: Readonly<Record<LocalHost["kind"], string>> = {
  native: "this machine's KVM",
  emulated: "the emulated KVM host",
  remote: "a server",
};
/** How long a cancelled task may take to be gone, in `ms`. */
const CANCEL_LIMIT_MS = 20_000;

/** What the user wants. */
export interface LocalTaskOptions extends ResultPlaces, RepositoryOptions {
  readonly agent: string;
  /** what the agent is to do (empty: its own user interface, on the terminal that `onTerminal` brings) */
  readonly prompt: string;
  readonly model?: string | undefined;
  readonly memoryMib?: number | undefined;
  readonly cpus?: number | undefined;
  readonly timeoutMs?: number | undefined;
  readonly modelUrl?: string | undefined;
  readonly modelIdleTimeoutMs?: number | undefined;
  readonly maxTokens?: number | undefined;
  readonly maxCostUsd?: number | undefined;
  /** file with prices of models (default: the user's own, if there is one) */
  readonly pricesFile?: string | undefined;
  /** use the login of the agent's own client even where there is a key */
  readonly login: boolean;
  /** what the agent may reach beside its model; the project's own file can only take away from it */
  readonly network: Omit<EgressRequest, "project">;
  readonly keep: boolean;
  /** use the scripted model server in place of a provider */
  readonly demo: boolean;
  readonly alpineRootfs?: string | undefined;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
  readonly onEvent: (event: TimedTaskEvent) => void;
  readonly onNotice: (message: string) => void;
  /** told the session's server once the session is up */
  readonly onSession?: ((client: ApiClient, sessionId: string) => void) | undefined;
  /** connects the agent with a terminal (default: there is none, and a prompt is needed) */
  readonly onTerminal?: ((client: ApiClient, sessionId: string) => Promise<unknown>) | undefined;
}

/** What came of it. */
export interface LocalTaskResult {
  readonly result: TaskResult;
  /** folder that the files are in (empty: there is none) */
  readonly outFolder: string;
  /** branch that the result was applied to */
  readonly branch?: string | undefined;
}

/** Contents of `result.json`. */
export interface ResultDocument extends TaskResult {
  readonly agent: string;
  readonly prompt: string;
  readonly host: LocalHost["kind"];
  readonly startedAt: string;
  readonly endedAt: string;
  /** with the time that it took to have a host */
  readonly timesMs: TaskResult["timesMs"] & { readonly host: number };
}

/** Finds out before anything is made that a limit cannot be kept. */
function checkBudget(request: Parameters<typeof taskBudget>[0], spec: AgentSpec): void {
  try {
    taskBudget(request, spec.model);
  } catch (error) {
    if (error instanceof SessionError) throw new LocalError("usage", error.message, { cause: error });
    throw error;
  }
}

function toStream(chunks: AsyncGenerator<Uint8Array>): ReadableStream<Uint8Array> {
  return ReadableStream.from(chunks) as ReadableStream<Uint8Array>;
}

/** Runs the task; a task that ends badly is a result, too. */
export async function runLocalTask(options: LocalTaskOptions): Promise<LocalTaskResult> {
  const startedAt = new Date().toISOString();
  const spec = findAgent(options.agent);
  if (spec === undefined) {
    throw new LocalError("usage", `There is no agent "${options.agent}"; known: ${AGENT_NAMES.join(", ")}`);
  }
  const isRemote = await remoteServer() !== undefined;
  if (isRemote && options.demo) {
    throw new LocalError(
      "usage",
      "--demo needs the scripted model of this machine, which a server cannot reach",
    );
  }
  const access = await openModelAccess({ ...options, spec, isOptional: isRemote });
  await using repository = await TaskRepository.open(options);
  const network = await networkRequest(options.network, repository.folder);
  const prices = await readPrices(options.pricesFile);
  checkBudget({ ...options, prices }, spec);
  await checkResultPlaces(options);

  const { alpineRootfs, onProgress, signal } = options;
  await using host = await openLocalHost({ spec, alpineRootfs, isKept: options.keep, onProgress, signal });
  const where = HOST_WORDS[host.kind];
  options.onNotice(`Running on ${where}: ${host.reason}`);
  signal.throwIfAborted();
  const demo = options.demo && spec.model !== undefined
    ? { server: startModelServer({ requiredKey: DEMO_KEY }), baseUrl: spec.model.baseUrl }
    : undefined;
  await using _ = { [Symbol.asyncDispose]: async () => await demo?.server.close() };
  const modelUrl = demo === undefined
    ? access.modelUrl
    : demo.server.url + new URL(demo.baseUrl).pathname.replace(/\/$/, "");

  const { id, result } = await followTask(host, {
    ...options,
    repo: repository.folder,
    network,
    prices,
    access: {
      apiKey: access.apiKey,
      modelHeaders: access.modelHeaders,
      follow: access.follow,
      modelUrl: modelUrl === undefined ? undefined : host.toServerUrl(modelUrl),
    },
  });
  // A failure here changes nothing: the server forgets by itself what nobody asks for any more.
  await using __ = { [Symbol.asyncDispose]: () => host.client.remove(id).catch(() => {}) };
  if (result.outcome === "cancelled") return { result, outFolder: "" };
  const prepare = host.kind === "remote" ? {} : { prepare: host.timesMs.prepare };
  const timesMs = { ...host.timesMs, ...result.timesMs, ...prepare };
  const document: ResultDocument = {
    agent: options.agent,
    prompt: options.prompt,
    host: host.kind,
    startedAt,
    endedAt: new Date().toISOString(),
    ...result,
    timesMs,
  };
  const { outFolder } = await writeResults(host.client, { ...options, id, document });
  const title = `${spec.title}: ${options.prompt}`;
  const branch = await repository.apply(host.client, { id, title, result });
  return { result: document, outFolder, branch };
}

async function followTask(
  host: LocalHost,
  options: Omit<LocalTaskOptions, "network"> & {
    readonly network: EgressRequest;
    readonly prices: PriceTable | undefined;
    readonly access:
      & { readonly [Name in "apiKey" | "modelHeaders" | "modelUrl"]: ModelAccess[Name] | undefined }
      & Pick<ModelAccess, "follow">;
  },
): Promise<{ id: string; result: TaskResult }> {
  const { client } = host;
  const { repo, signal, onNotice } = options;
  const { follow, ...submitted } = options.access;
  let uploadId: string | undefined;
  if (repo !== undefined) {
    const archive = packWorkspace(repo, (path, reason) => onNotice(`Left out "${path}": ${reason}`));
    uploadId = await client.upload(toStream(archive), signal);
  }
  const { id } = await client.submit({
    agent: options.agent,
    prompt: options.prompt,
    ...(options.prompt === "" ? { interactive: true } : {}),
    model: options.model,
    memoryMib: options.memoryMib,
    cpus: options.cpus,
    timeoutMs: options.timeoutMs,
    modelIdleTimeoutMs: options.modelIdleTimeoutMs,
    maxTokens: options.maxTokens,
    maxCostUsd: options.maxCostUsd,
    prices: options.prices,
    network: options.network,
    keep: options.keep,
    attached: true,
    uploadId,
    ...submitted,
  });
  using over = abortAtEnd();
  follow((headers) => client.renewCredentials(id, headers), over.signal);
  const giveUp = new AbortController();
  const cancel = (): void => {
    Deno.unrefTimer(setTimeout(() => giveUp.abort(), CANCEL_LIMIT_MS));
    void client.cancel(id).catch(() => giveUp.abort());
  };
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel, { once: true });
  for await (const event of client.events(id, giveUp.signal)) {
    options.onEvent(event);
    if (event.type === "phase" && event.phase === "boot") options.onSession?.(client, id);
    if (event.type === "terminal") {
      // How it ends the task's own result says
      void options.onTerminal?.(client, event.sessionId).catch(() => {});
    }
    if (event.type === "result") return { id, result: event.result };
  }
  throw new LocalError("host", "Task's events ended without a result");
}

function abortAtEnd(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  return { signal: controller.signal, [Symbol.dispose]: () => controller.abort() };
}
