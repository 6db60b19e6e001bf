/**
 * Finds the server that has the sessions of this machine: the background server, or the one in the emulated host.
 *
 * @module
 */

import { createApp } from "../api/app.ts";
import { ApiClient } from "../api/client.ts";
import { openTaskService } from "../api/task_service.ts";
import { emulatedHostStatus, startEmulatedHost } from "../emulated/host.ts";
import { stateDir } from "../images/paths.ts";
import { backgroundClient } from "./background_start.ts";
import { chooseHost } from "./host_choice.ts";
import { LocalError } from "./local_error.ts";
import { remoteServer } from "./remote_server.ts";

/** A server with sessions. */
export interface SessionHost extends AsyncDisposable {
  readonly client: ApiClient;
}

const NOTHING_TO_CLOSE = { [Symbol.asyncDispose]: () => Promise.resolve() };

/** The server that has the sessions (undefined: there are none). */
export async function openSessionHost(): Promise<SessionHost | undefined> {
  const remote = await remoteServer();
  if (remote !== undefined) return { client: remote, ...NOTHING_TO_CLOSE };
  const { kind } = await chooseHost(stateDir());
  if (kind === "native") return await openNative();
  if (!(await emulatedHostStatus()).running) return undefined;
  const { url, token } = await startEmulatedHost({
    onProgress: () => {},
    signal: new AbortController().signal,
  });
  return { client: new ApiClient({ baseUrl: url, token }), ...NOTHING_TO_CLOSE };
}

/** The same, where a session is needed. */
export async function requireSessionHost(): Promise<SessionHost> {
  const host = await openSessionHost();
  if (host !== undefined) return host;
  throw new LocalError("usage", "There are no sessions: sandbox run … --keep leaves one");
}

async function openNative(): Promise<SessionHost> {
  const client = await backgroundClient();
  if (client !== undefined) return { client, ...NOTHING_TO_CLOSE };
  // Without it no session runs, but stopped ones may be there
  return await serveHere();
}

/** A server in this process, for as long as it is not disposed of. */
export async function serveHere(
  options: Omit<Parameters<typeof openTaskService>[0], "stateDir"> = {},
): Promise<SessionHost> {
  const service = await openTaskService({ ...options, stateDir: stateDir() });
  const token = crypto.randomUUID() + crypto.randomUUID();
  const app = createApp({ service, token });
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
  return {
    client: new ApiClient({ baseUrl: `http://127.0.0.1:${server.addr.port}`, token }),
    async [Symbol.asyncDispose](): Promise<void> {
      await service.close();
      await server.shutdown();
    },
  };
}
