import assert from "node:assert/strict";
import { onVmHost } from "../support/sandbox_cli.ts";

/** `PADDOCK_KILLS=200` takes the time that it takes; these few are enough to notice that something was broken. */
const COUNT = Number(Deno.env.get("PADDOCK_KILLS") ?? 4);
const SEED = Number(Deno.env.get("PADDOCK_SEED") ?? 20261122);

const ROOT = new URL("../..", import.meta.url).pathname;

Deno.test("kill -9 of the command line at any moment leaves nothing behind once somebody has looked", async () => {
  const program = `${ROOT}test/support/kill_runs.ts`;
  const text = await onVmHost(
    `deno run --quiet --no-lock --cached-only --allow-all ${program} ${COUNT} ${SEED} 2>&1; true`,
  );
  console.log(text.trim());
  assert.match(text, new RegExp(`${COUNT} kills, [0-9]+ whole results, 0 faults`));
});
