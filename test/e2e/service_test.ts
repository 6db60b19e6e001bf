import assert from "node:assert/strict";
import { onVmHost } from "../support/sandbox_cli.ts";

/** `PADDOCK_TASKS=1000` and `PADDOCK_KILLS=100` take the time that they take; these few notice that something was broken. */
const TASKS = Number(Deno.env.get("PADDOCK_TASKS") ?? 9);
const KILLS = Number(Deno.env.get("PADDOCK_KILLS") ?? 3);
const SEED = Number(Deno.env.get("PADDOCK_SEED") ?? 20261123);

const ROOT = new URL("../..", import.meta.url).pathname;

Deno.test("tasks of a service are each run once, or again where they may be, whatever is killed", async () => {
  const program = `${ROOT}test/support/service_run.ts`;
  const text = await onVmHost(
    `deno run --quiet --no-lock --cached-only --allow-all ${program} ${TASKS} ${KILLS} ${SEED} 2>&1; true`,
  );
  console.log(text.trim());
  assert.match(text, new RegExp(`${TASKS} tasks, .* 0 faults`));
});
