/**
 * The service as others reach it, on a real port, with a runner in place of VMs; and raw connections to it.
 *
 * @module
 */

import { createApp } from "../../src/api/app.ts";
import { ServiceMetrics } from "../../src/api/metrics.ts";
import {
  openTaskService,
  type TaskRunner,
  type TaskService,
  type TaskServiceOptions,
} from "../../src/api/task_service.ts";
import type { QueueLimits } from "../../src/api/queue_options.ts";
import type { RequestEntry } from "../../src/api/request_log.ts";
import {
  openPublicServer,
  type PublicServer,
  type PublicServerOptions,
} from "../../src/local/public_server.ts";
import { openTokens } from "../../src/local/tokens.ts";
import type { NewToken, TokenStore } from "../../src/store/token_store.ts";

/** A service of a test. */
export interface TestService {
  readonly server: PublicServer;
  readonly service: TaskService;
  readonly stateDir: string;
  readonly tokens: TokenStore;
  readonly log: readonly RequestEntry[];
  /** makes a token and gives its text */
  readonly token: (token?: Partial<NewToken>) => string;
  /** asks for something with a token (null: without one) */
  readonly ask: (token: string | null, path: string, init?: RequestInit) => Promise<Response>;
  /** sends text as it is and gives all that comes back until the other side ends the connection */
  readonly raw: (text: string) => Promise<string>;
}

/** How a test's service differs. */
export type TestServiceOptions =
  & Pick<TaskServiceOptions, "credentialsFor" | "fetchRepo" | "makeSession" | "prepare">
  & {
    readonly runner: TaskRunner;
    readonly hasPage?: boolean;
    /** how much runs at once (`limits` are those on connections) */
    readonly queueLimits?: QueueLimits;
  }
  & Partial<Pick<PublicServerOptions, "names" | "isBehindProxy" | "limits" | "bodyLimits" | "tls">>;

const EVERYTHING = ["tasks:read", "tasks:write", "sessions:read", "sessions:write"];

/** Sends text over a connection of its own and gives what comes back until it is closed. */
export async function exchange(port: number, text: string): Promise<string> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  await conn.write(new TextEncoder().encode(text));
  return await readAll(conn);
}

/** All that a connection still gives; a reset is an end, too. */
export async function readAll(conn: Deno.Conn): Promise<string> {
  const chunk = new Uint8Array(65536);
  let all = "";
  try {
    for (let count = await conn.read(chunk); count !== null; count = await conn.read(chunk)) {
      all += new TextDecoder().decode(chunk.subarray(0, count));
    }
  } catch (error) {
    // Closed here, while it was read
    const isClosed = error instanceof Deno.errors.Interrupted || error instanceof Deno.errors.BadResource;
    if (!isClosed && !(error instanceof Deno.errors.ConnectionReset)) throw error;
  }
  return all;
}

/** Runs `use` with a service that is gone afterwards. */
export async function withService(
  options: TestServiceOptions,
  use: (setup: TestService) => Promise<void>,
): Promise<void> {
  const { names = [], isBehindProxy = false, limits = {}, bodyLimits, tls, hasPage = false } = options;
  const stateDir = await Deno.makeTempDir();
  const { limits: _limits, queueLimits, ...serviceOptions } = options;
  const service = await openTaskService({
    ...serviceOptions,
    ...(queueLimits === undefined ? {} : { limits: queueLimits }),
    stateDir,
  });
  const page = hasPage ? { hasPage, metrics: new ServiceMetrics(service) } : {};
  using opened = openTokens(stateDir);
  const tokens = opened.store;
  const log: RequestEntry[] = [];
  const server = openPublicServer({
    hostname: "127.0.0.1",
    port: 0,
    tls,
    names,
    isBehindProxy,
    tokens,
    limits,
    ...(bodyLimits === undefined ? {} : { bodyLimits }),
    onRequest: (entry) => log.push(entry),
    createApp: (access) => createApp({ service, access, ...page }),
  });
  const token = (change: Partial<NewToken> = {}): string =>
    tokens.create({
      name: "test",
      scopes: EVERYTHING,
      expiresAt: null,
      ratePerMinute: null,
      maxActive: null,
      ...change,
    }).text;
  const ask = async (text: string | null, path: string, init: RequestInit = {}): Promise<Response> => {
    const headers = new Headers(init.headers);
    if (text !== null) headers.set("authorization", `Bearer ${text}`);
    return await fetch(server.url + path, { redirect: "manual", ...init, headers });
  };
  const raw = (text: string): Promise<string> => exchange(server.port, text);
  try {
    await use({ server, service, stateDir, tokens, log, token, ask, raw });
  } finally {
    await service.close();
    await server[Symbol.asyncDispose]();
    await Deno.remove(stateDir, { recursive: true });
  }
}
