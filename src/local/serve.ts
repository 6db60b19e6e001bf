/**
 * The service of this machine: takes tasks from whoever has a token, runs them here, or in the emulated host where this
 * machine's KVM is not whole, until it is told to stop.
 *
 * @module
 */

import type { MiddlewareHandler } from "hono";
import { createApp } from "../api/app.ts";
import { ServiceMetrics } from "../api/metrics.ts";
import type { ApiEnv } from "../api/principal.ts";
import { openTaskService } from "../api/task_service.ts";
import { TaskTraces } from "../api/traces.ts";
import { startEmulatedHost } from "../emulated/host.ts";
import { requireTools } from "../images/host_tools.ts";
import type { OnProgress } from "../images/progress.ts";
import { fetchRepo } from "./fetch_repo.ts";
import { chooseHost } from "./host_choice.ts";
import { bypassProxies } from "./local_host.ts";
import { LocalError } from "./local_error.ts";
import { withMcp } from "./mcp_app.ts";
import { openServerCredentials } from "./server_credentials.ts";
import { openPublicServer, type PublicServer } from "./public_server.ts";
import { createForward, describeHost, limitHost } from "./serve_forward.ts";
import type { ServeLog } from "./serve_log.ts";
import {
  folderError,
  listenError,
  type ListenOptions,
  localToken,
  lockFolder,
  requireSafeListen,
} from "./serve_rules.ts";
import { openTokens, type Tokens } from "./tokens.ts";

/** What `sandbox serve` is told. */
export interface ServeOptions extends ListenOptions {
  readonly stateDir: string;
  /** VMs at once */
  readonly maxVms: number;
  /** RAM of these VMs together, in `MiB` (default: three quarters of this machine's) */
  readonly maxMemoryMib?: number | undefined;
  /** how long a task that is over is kept, in `ms` (default: until somebody deletes it) */
  readonly retainMs?: number | undefined;
  /** how long tasks that run may go on when the server is to end, in `ms` (default: not at all) */
  readonly drainMs?: number | undefined;
  readonly log: ServeLog;
  readonly onProgress: OnProgress;
  /** aborts when the server is to end */
  readonly signal: AbortSignal;
  /** it listens; `tokenFile` has a token for this user */
  readonly onListen: (place: { readonly url: string; readonly tokenFile: string | undefined }) => void;
}

/** What answers requests, behind whoever checks them. */
interface Backend extends AsyncDisposable {
  /** Starts nothing any more; settles when nothing runs, or after `limitMs`. */
  readonly drain: (limitMs: number) => Promise<void>;
  readonly createApp: (
    access: MiddlewareHandler<ApiEnv>,
  ) => { readonly fetch: (request: Request, env: object) => Response | Promise<Response> };
}

/** Serves until the signal; settles when everything is given back. @throws {LocalError} when it cannot begin */
export async function serve(options: ServeOptions): Promise<void> {
  const { stateDir, signal, log } = options;
  // What is written here is nobody else's business
  Deno.umask(0o077);
  await using stack = new AsyncDisposableStack();
  const tokens = await prepareFolder(options, stack);
  requireSafeListen(options, tokens.store);
  const tls = await readTls(options);
  const tokenFile = await localToken(stateDir, tokens.store).catch((error) => {
    throw folderError(stateDir, error);
  });
  const backend = await openBackend(options);
  const server = await listen(options, tls, tokens, backend);
  options.onListen({ url: server.url, tokenFile });
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  if (options.drainMs !== undefined) {
    log("info", "draining: tasks that run may end, no others start");
    await backend.drain(options.drainMs);
  }
  log("info", "stopping");
  // Those who follow a task still hear of its end
  server.stopListening();
  await backend[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  log("info", "stopped");
}

async function prepareFolder({ stateDir }: ServeOptions, stack: AsyncDisposableStack): Promise<Tokens> {
  try {
    await Deno.mkdir(stateDir, { recursive: true, mode: 0o700 });
    stack.use(lockFolder(stateDir));
    return stack.use(openTokens(stateDir));
  } catch (error) {
    throw folderError(stateDir, error instanceof LocalError && error.code === "host" ? error.cause : error);
  }
}

async function readTls({ tls }: ServeOptions): Promise<{ cert: string; key: string } | undefined> {
  if (tls === undefined) return undefined;
  const read = (path: string): Promise<string> =>
    Deno.readTextFile(path).catch((cause) => {
      throw new LocalError(
        "usage",
        `Cannot read ${path}: ${cause instanceof Error ? cause.message : cause}`,
        { cause },
      );
    });
  return { cert: await read(tls.certFile), key: await read(tls.keyFile) };
}

async function listen(
  options: ServeOptions,
  tls: { cert: string; key: string } | undefined,
  { store }: Tokens,
  backend: Backend,
): Promise<PublicServer> {
  const { hostname, port, names, isBehindProxy, log } = options;
  try {
    return openPublicServer({
      hostname,
      port,
      names,
      isBehindProxy,
      tls,
      tokens: store,
      onRequest: (entry) => log(entry.status >= 500 ? "error" : "info", "request", { ...entry }),
      createApp: (access) => withMcp(backend.createApp(access), access),
    });
  } catch (cause) {
    await backend[Symbol.asyncDispose]();
    if (tls !== undefined && !(cause instanceof Deno.errors.AddrInUse)) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new LocalError("usage", `Cannot use the certificate and its key: ${why}`, { cause });
    }
    throw listenError(hostname, port, cause);
  }
}

async function openBackend(options: ServeOptions): Promise<Backend> {
  const { stateDir, log } = options;
  const choice = await chooseHost(stateDir);
  log("info", `VMs run ${choice.kind === "native" ? "on this machine" : "in the emulated host"}`, {
    reason: choice.reason,
  });
  const limits = { maxVms: options.maxVms, maxMemoryMib: options.maxMemoryMib ?? defaultMemoryMib() };
  return choice.kind === "native"
    ? await openNative(options, limits)
    : await openEmulated(options, { ...limits, maxMemoryMib: options.maxMemoryMib });
}

type Limits = Parameters<typeof limitHost>[1];

async function openNative(
  { stateDir, retainMs, signal, log }: ServeOptions,
  limits: { readonly maxVms: number; readonly maxMemoryMib: number },
): Promise<Backend> {
  await requireTools("network");
  const onNotice = (message: string): void => log("info", message);
  const credentialsFor = await openServerCredentials({ onNotice, signal });
  const service = await openTaskService({
    stateDir,
    limits,
    retainMs,
    isDurable: true,
    credentialsFor,
    fetchRepo: ({ url, branch, network }, path, signal) =>
      fetchRepo({ url, branch, network }, path, { stateDir, signal }),
  }).catch((error) => {
    throw folderError(stateDir, error);
  });
  const metrics = new ServiceMetrics(service);
  service.queue.listen(new TaskTraces(service.store));
  service.queue.listen({
    onEvent(taskId, event): void {
      if (event.type === "state") log("info", "task", { taskId, state: event.state, cause: event.cause });
    },
  });
  return {
    createApp: (access) => createApp({ service, access, metrics, hasPage: true }),
    drain: (limitMs) => service.queue.drain(limitMs),
    [Symbol.asyncDispose]: () => service.close(),
  };
}

async function openEmulated(
  { onProgress, retainMs, drainMs, signal, log }: ServeOptions,
  limits: Limits,
): Promise<Backend> {
  bypassProxies();
  const onNotice = (message: string): void => log("info", message);
  const submissions = { onProgress, credentialsFor: await openServerCredentials({ onNotice, signal }) };
  if (retainMs !== undefined || drainMs !== undefined) {
    log(
      "info",
      "--retain and --drain do nothing here: the emulated host goes on with its tasks, which end with it",
    );
  }
  const host = await startEmulatedHost({ onProgress, signal });
  await limitHost(host, limits);
  const description = await describeHost(host);
  return {
    createApp: (access) => createForward({ ...host, submissions, description }, access),
    // Its tasks belong to the host, which goes on with them
    drain: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function defaultMemoryMib(): number {
  return Math.floor(Deno.systemMemoryInfo().total / 1024 ** 2 * 3 / 4);
}
