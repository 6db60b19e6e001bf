/**
 * Starts the background server where there is none.
 *
 * @module
 */

import { join } from "node:path";
import { ApiClient } from "../api/client.ts";
import { withLock } from "../images/build_once.ts";
import { stateDir } from "../images/paths.ts";
import { type BackgroundRecord, findBackgroundServer } from "./background_record.ts";
import { LocalError } from "./local_error.ts";

const START_LIMIT_MS = 30_000;
const POLL_MS = 50;
const PERMISSIONS = ["read", "write", "run", "net", "env", "sys"].map((name) => `--allow-${name}`);

/** A client of the background server (undefined: it does not run). */
export async function backgroundClient(): Promise<ApiClient | undefined> {
  const record = await findBackgroundServer();
  return record === undefined ? undefined : clientOf(record);
}

/** A client of the background server, which is started if it does not run. */
export async function startBackgroundServer(signal: AbortSignal): Promise<ApiClient> {
  return await withLock(join(stateDir(), "server.lock"), signal, async () => {
    const running = await findBackgroundServer();
    if (running !== undefined) return clientOf(running);
    return clientOf(await start(signal));
  });
}

function clientOf({ url, token }: BackgroundRecord): ApiClient {
  return new ApiClient({ baseUrl: url, token });
}

async function start(signal: AbortSignal): Promise<BackgroundRecord> {
  const log = join(stateDir(), "server.log");
  const program = new URL("background_server.ts", import.meta.url).pathname;
  const command = [Deno.execPath(), "run", "--quiet", "--no-prompt", ...PERMISSIONS, program];
  // A process group of its own: Ctrl-C on this terminal is not for it
  const child = new Deno.Command("sh", {
    args: ["-c", 'umask 077; log=$1; shift; exec "$@" > "$log" 2>&1', "sh", log, ...command],
    cwd: "/",
    stdin: "null",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  child.unref();
  let hasEnded = false;
  void child.status.then(() => hasEnded = true);
  for (const deadline = performance.now() + START_LIMIT_MS; performance.now() < deadline && !hasEnded;) {
    signal.throwIfAborted();
    const record = await findBackgroundServer();
    if (record !== undefined) return record;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const words = await Deno.readTextFile(log).catch(() => "");
  throw new LocalError("host", `The background server did not start: ${words.slice(-1000) || `see ${log}`}`);
}
