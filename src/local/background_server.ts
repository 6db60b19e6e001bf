/**
 * The server of this machine that outlives a command line: it has the sessions that were kept, and ends by itself when
 * there are none any more. A program of its own; `background_start.ts` starts it.
 *
 * @module
 */

import { createApp } from "../api/app.ts";
import { openTaskService } from "../api/task_service.ts";
import { stateDir } from "../images/paths.ts";
import { removeBackgroundRecord, writeBackgroundRecord } from "./background_record.ts";

/** How long it stays with nothing to do, in `ms`. */
const IDLE_LIMIT_MS = 20_000;
const LOOK_MS = 1000;

const service = await openTaskService({ stateDir: stateDir() });
const token = crypto.randomUUID() + crypto.randomUUID();
const app = createApp({ service, token });
let openRequests = 0;
let lastUseMs = performance.now();
const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
  openRequests += 1;
  try {
    return await app.fetch(request);
  } finally {
    openRequests -= 1;
    lastUseMs = performance.now();
  }
});
await writeBackgroundRecord({ url: `http://127.0.0.1:${server.addr.port}`, token });

const wanted = Promise.withResolvers<void>();
for (const name of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(name, () => wanted.resolve());
// It has no terminal: that its starter's goes away is nothing to it
Deno.addSignalListener("SIGHUP", () => {});
const timer = setInterval(() => {
  if (service.activeCount > 0 || openRequests > 0) lastUseMs = performance.now();
  if (performance.now() - lastUseMs > IDLE_LIMIT_MS) wanted.resolve();
}, LOOK_MS);
await wanted.promise;
clearInterval(timer);
await removeBackgroundRecord();
await service.close();
Deno.exit(0);
