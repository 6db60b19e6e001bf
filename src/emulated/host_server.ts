/**
 * The server inside the emulated host: the same API that runs natively, plus `/host/*` for whoever started
 * the host. Every request carries the host's token.
 *
 * @module
 */
import { createApp } from "../api/app.ts";
import { ServiceMetrics } from "../api/metrics.ts";
import { openTaskService } from "../api/task_service.ts";
import { stateDir } from "../images/paths.ts";
import type { HostInfo } from "./exec_protocol.ts";
import { running, serveExec } from "./host_exec.ts";

// deno_cache.ts runs this once for its imports alone
if (Deno.env.get("PADDOCK_WARM_UP") === "1") Deno.exit(0);

const token = Deno.env.get("PADDOCK_TOKEN") ?? "";
// Written by whoever started this host: looking at each shared file takes seconds here
const stamp = await Deno.readTextFile(`${Deno.env.get("PADDOCK_EXCHANGE") ?? "/exchange"}/source-stamp`);
// Whoever serves others from here says how much may run at once
const USUAL_LIMITS = { maxVms: 8, maxMemoryMib: Infinity };
const limits = { ...USUAL_LIMITS };
const service = await openTaskService({ stateDir: stateDir(), limits });
const app = createApp({ service, token, metrics: new ServiceMetrics(service) });
const startedMs = performance.now();

Deno.serve(
  { hostname: "0.0.0.0", port: 8080, onListen: () => console.log("paddock: host server ready") },
  async (request) => {
    const path = new URL(request.url).pathname;
    if (!path.startsWith("/host/")) return await app.fetch(request);
    if (token === "" || request.headers.get("authorization") !== `Bearer ${token}`) {
      return new Response("The host's token is missing\n", { status: 401 });
    }
    return await hostRoute(path, request);
  },
);

async function hostRoute(path: string, request: Request): Promise<Response> {
  switch (`${request.method} ${path}`) {
    case "GET /host/info":
      return Response.json(info());
    case "POST /host/restart":
      // After the answer is out; guest_init.sh starts the server again
      setTimeout(() => void service.close().finally(() => Deno.exit(0)), 50);
      return Response.json({ restarting: true });
    case "PUT /host/limits":
      Object.assign(limits, USUAL_LIMITS, await request.json());
      return new Response(null, { status: 204 });
    case "GET /host/exec": {
      const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
      serveExec(socket);
      return response;
    }
    default:
      return new Response("Not found\n", { status: 404 });
  }
}

function info(): HostInfo {
  return {
    sourceStamp: stamp,
    active: running.count + service.activeCount,
    denoVersion: Deno.version.deno,
    uptimeMs: Math.round(performance.now() - startedMs),
  };
}
