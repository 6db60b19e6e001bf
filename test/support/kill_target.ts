/**
 * A server with one task whose guest never greets, to be killed: a program of its own.
 *
 *     deno run --allow-… test/support/kill_target.ts STATE KERNEL DISK MODE
 *
 * @module
 */

import { submissionSchema } from "../../src/api/schemas.ts";
import { openTaskService } from "../../src/api/task_service.ts";

const [stateDir = "", kernelPath = "", rootfsPath = "", mode = "proxy"] = Deno.args;
const service = await openTaskService({
  stateDir,
  prepare: () =>
    Promise.resolve({
      kernelPath,
      kernelVersion: "none",
      rootfsPath,
      rootfsFormat: "raw",
      agentVersion: "none",
      imageKey: "none",
      base: "alpine",
      baseVersion: "none",
    }),
});
const allow = mode === "proxy" ? ["example.com"] : [];
const request = { agent: "codex", prompt: "p", memoryMib: 128, attached: true, network: { mode, allow } };
const { id } = await service.submit(submissionSchema.parse(request));
for await (const row of service.follow(id, 0, new AbortController().signal)) {
  if (row !== undefined) console.log(row.body);
}
