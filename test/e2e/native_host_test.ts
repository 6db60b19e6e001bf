import assert from "node:assert/strict";
import { hostKind, onVmHost, sandboxCommand, STATE_LEFTOVERS } from "../support/sandbox_cli.ts";

/**
 * The emulated host has a whole KVM: to a command line started inside it, it is a machine like any other. Where this
 * machine's own KVM is whole, all other tests run this way already.
 */
const ignore = await hostKind() === "native";

/** A shell script's command for the command line inside the emulated host, with a state folder of its own. */
function inside(...args: readonly string[]): string {
  const [, ...words] = sandboxCommand(...args);
  const quoted = words.map((word) => `'${word}'`).join(" ");
  return `PADDOCK_STATE=/tmp/native-state deno ${quoted}`;
}

const CLEAN = "rm -rf /tmp/native-state /tmp/native-out";

Deno.test({
  name: "where KVM is whole the command line needs no other host, and leaves nothing",
  ignore,
  async fn(): Promise<void> {
    const run = inside("run", "codex", "--demo", "--out", "/tmp/native-out");
    const script =
      `${CLEAN}; ${run} >/tmp/native-log 2>&1 && cat /tmp/native-out/result.json || cat /tmp/native-log
      echo LEFT; STATE=/tmp/native-state; ${STATE_LEFTOVERS}
      ${CLEAN}`;
    const [document = "", left] = (await onVmHost(script)).split("LEFT\n");
    const result = JSON.parse(document) as { host: string; outcome: string };
    assert.deepEqual([result.host, result.outcome], ["native", "done"]);
    assert.equal(left?.trim(), "");
  },
});

Deno.test({
  name: "what kill -9 of the command line leaves is removed by the next start",
  ignore,
  async fn(): Promise<void> {
    const run = inside("run", "codex", "--demo", "--out", "/tmp/native-out");
    const script = `${CLEAN}
      ${run} >/dev/null 2>&1 & pid=$!
      for wait in $(seq 300); do ls /tmp/native-state/sessions/*/v.sock >/dev/null 2>&1 && break; sleep 0.2; done
      kill -9 $pid; sleep 2
      STATE=/tmp/native-state; echo BEFORE; ${STATE_LEFTOVERS}
      ${run} >/dev/null 2>&1; echo "code $?"
      echo AFTER; ${STATE_LEFTOVERS}
      ls /tmp/native-state/owners 2>/dev/null; ${CLEAN}`;
    const [before = "", after = ""] = (await onVmHost(script)).split("AFTER\n");
    assert.match(before, /sessions\/[a-z0-9]+/, "the kill left a session");
    assert.match(before, /code 0/);
    assert.equal(after.trim(), "");
  },
});
