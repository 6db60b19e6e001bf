/**
 * Brings up a server to submit tasks to: one in this process where this machine's KVM is whole, else the one
 * in the emulated host. Both speak the same API.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import { ApiClient } from "../api/client.ts";
import { startEmulatedHost } from "../emulated/host.ts";
import { requireTools } from "../images/host_tools.ts";
import { stateDir } from "../images/paths.ts";
import { prepareImage } from "../images/prepare.ts";
import type { OnProgress } from "../images/progress.ts";
import { startBackgroundServer } from "./background_start.ts";
import { chooseHost, type HostKind } from "./host_choice.ts";
import { LocalError } from "./local_error.ts";
import { leadsHere, remoteServer } from "./remote_server.ts";
import { serveHere } from "./session_host.ts";

/** Address of the machine itself as the emulated host's guest sees it: QEMU's user-mode network. */
const EMULATED_GATEWAY_ADDR = "10.0.2.2";

/** Options of {@linkcode openLocalHost}. */
export interface LocalHostOptions {
  readonly spec: AgentSpec;
  /** Alpine root archive to build the image from (default: the CDN's) */
  readonly alpineRootfs?: string | undefined;
  /** the session outlives the task, and this process */
  readonly isKept: boolean;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

/** A server that takes tasks. */
export interface LocalHost extends AsyncDisposable {
  /** `remote`: the user named a server, which has its own host */
  readonly kind: HostKind | "remote";
  /** why this kind */
  readonly reason: string;
  readonly client: ApiClient;
  /** A URL of this machine as the server sees it. */
  toServerUrl(url: string): string;
  /** time that it took to have a server, and to have the image, in `ms` */
  readonly timesMs: { readonly host: number; readonly prepare: number };
}

/** The same address from inside the emulated host: its own loopback interface is not this machine's. */
export function toEmulatedUrl(url: string): string {
  const parsed = new URL(url);
  if (leadsHere(parsed)) parsed.hostname = EMULATED_GATEWAY_ADDR;
  return parsed.href.replace(/\/$/, "");
}

/** Requests to the local server must not go through a proxy. */
export function bypassProxies(): void {
  const listed = Deno.env.get("NO_PROXY") ?? Deno.env.get("no_proxy") ?? "";
  const names = new Set([...listed.split(",").filter((name) => name !== ""), "127.0.0.1", "localhost"]);
  Deno.env.set("NO_PROXY", [...names].join(","));
}

/** Brings up the server and the agent's image; both are quick when they are there already. */
export async function openLocalHost(options: LocalHostOptions): Promise<LocalHost> {
  const remote = await remoteServer();
  if (remote !== undefined) return openRemote(remote, options);
  bypassProxies();
  const { onProgress, signal, spec } = options;
  const choiceStart = performance.now();
  const choice = await chooseHost(stateDir());
  const choiceMs = performance.now() - choiceStart;
  if (choice.kind === "native") await requireTools("network");
  const prepareStart = performance.now();
  const prepareOptions = options.alpineRootfs === undefined ? {} : { alpineRootfs: options.alpineRootfs };
  const image = await prepareImage(spec, { ...prepareOptions, onProgress, signal });
  const prepare = Math.round(performance.now() - prepareStart);
  const hostStart = performance.now();
  const host = choice.kind === "native"
    ? await openNativeServer(() => Promise.resolve(image), options)
    : await openEmulatedServer({ onProgress, signal });
  const timesMs = { host: Math.round(performance.now() - hostStart + choiceMs), prepare };
  return { ...host, ...choice, timesMs };
}

function openRemote(client: ApiClient, { alpineRootfs }: LocalHostOptions): LocalHost {
  if (alpineRootfs !== undefined) {
    throw new LocalError("usage", "--alpine-rootfs is for images of this machine: the server builds its own");
  }
  return {
    kind: "remote",
    reason: "--server or PADDOCK_SERVER names it",
    client,
    toServerUrl: (url) => url,
    timesMs: { host: 0, prepare: 0 },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

type Server = Pick<LocalHost, "client" | "toServerUrl" | typeof Symbol.asyncDispose>;

async function openNativeServer(
  prepare: typeof prepareImage,
  { isKept, signal }: Pick<LocalHostOptions, "isKept" | "signal">,
): Promise<Server> {
  const toServerUrl = (url: string): string => url;
  if (!isKept) return { ...await serveHere({ prepare }), toServerUrl };
  // A session that is to outlive this process needs a server that does
  const client = await startBackgroundServer(signal);
  return { client, toServerUrl, [Symbol.asyncDispose]: () => Promise.resolve() };
}

async function openEmulatedServer(options: Pick<LocalHostOptions, "onProgress" | "signal">): Promise<Server> {
  const { url, token } = await startEmulatedHost(options);
  return {
    client: new ApiClient({ baseUrl: url, token }),
    toServerUrl: toEmulatedUrl,
    // The host stays for the next task.
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
