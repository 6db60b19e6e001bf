/**
 * A durable service whose tasks are a line in a file and a short wait, to be killed: a program of its own.
 *
 *     deno run --allow-… test/support/queue_target.ts STATE RUNS
 *
 * Prints its port.
 *
 * @module
 */

import { createApp } from "../../src/api/app.ts";
import { openTaskService } from "../../src/api/task_service.ts";
import { endedAs, TEST_TOKEN } from "./task_service.ts";

const [stateDir = "", runsPath = ""] = Deno.args;
const service = await openTaskService({
  stateDir,
  isDurable: true,
  limits: { maxVms: 4, maxMemoryMib: 1e6 },
  runner: async ({ request, onEvent, folder }) => {
    onEvent({ type: "phase", phase: "prepare", ms: 1 });
    // One write that is appended whole, before anything else of the run
    Deno.writeTextFileSync(runsPath, `${request.prompt}\n`, { append: true });
    await new Promise((resolve) => setTimeout(resolve, Number(request.prompt) * 7 % 40));
    await Deno.writeTextFile(`${folder}/changes.patch`, request.prompt);
    onEvent({ type: "phase", phase: "agent", ms: 1 });
    return { ...endedAs("done"), finalMessage: request.prompt };
  },
});
const app = createApp({ service, token: TEST_TOKEN });
Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) }, app.fetch);
