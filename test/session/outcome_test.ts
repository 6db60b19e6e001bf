import assert from "node:assert/strict";
import type { AgentRunFacts } from "../../src/session/agent_run.ts";
import { judgeRun } from "../../src/session/outcome.ts";
import type { GatewayDecision } from "../../src/network/model_gateway.ts";

const EXIT_0 = { exitCode: 0, signal: null, timedOut: false } as const;

function facts(change: Partial<AgentRunFacts>): AgentRunFacts {
  return {
    end: { kind: "exited", exit: EXIT_0 },
    exit: EXIT_0,
    sawDone: true,
    fatalMessage: null,
    finalMessage: "ok",
    usage: null,
    stderrTail: "",
    raw: { lineCount: 1, truncated: false },
    ...change,
  };
}

const LIMITS = { timeoutMs: 60_000, lastDecision: undefined, overBudget: false } as const;

const decision = (change: Partial<GatewayDecision>): GatewayDecision => ({
  action: "forwarded",
  method: "POST",
  path: "/v1/responses",
  status: 200,
  responseBytes: 0,
  durationMs: 1,
  ...change,
});

Deno.test("judgeRun() calls a run done that exited with 0 after completing its turn", () => {
  assert.equal(judgeRun(facts({}), LIMITS).outcome, "done");
});

Deno.test("judgeRun() does not take exit code 0 alone for success", () => {
  const verdict = judgeRun(facts({ sawDone: false }), LIMITS);
  assert.equal(verdict.outcome, "agent_failed");
  assert.match(verdict.cause, /exited with code 0 without completing its turn/);
});

Deno.test("judgeRun() fails a run with a fatal error, whatever its exit code", () => {
  const verdict = judgeRun(facts({ fatalMessage: "context too long" }), LIMITS);
  assert.equal(verdict.outcome, "agent_failed");
  assert.match(verdict.cause, /context too long/);
});

Deno.test("judgeRun() names what the model's API answered when the agent does not", () => {
  const exit = { exitCode: 1, signal: null, timedOut: false };
  const failed = facts({ end: { kind: "exited", exit }, exit, sawDone: false, fatalMessage: "high demand" });
  const lastDecision = decision({ status: 500, reason: "The server had an error" });
  const verdict = judgeRun(failed, { ...LIMITS, lastDecision });
  assert.match(verdict.cause, /high demand; Model API answered 500: The server had an error/);
});

Deno.test("judgeRun() says that a run reached its limit, and what the model's API did", () => {
  const lastDecision = decision({
    action: "failed",
    reason: "Agent gave up on the answer after 9.0 s of silence",
  });
  const verdict = judgeRun(facts({ end: { kind: "deadline" }, sawDone: false }), { ...LIMITS, lastDecision });
  assert.equal(verdict.outcome, "timeout");
  assert.match(verdict.cause, /within 60 s: Agent gave up on the answer after 9\.0 s of silence/);
});

Deno.test("judgeRun() names memory as the likely reason for SIGKILL", () => {
  const exit = { exitCode: null, signal: 9, timedOut: false };
  assert.match(
    judgeRun(facts({ end: { kind: "exited", exit }, exit, sawDone: false }), LIMITS).cause,
    /memory/,
  );
});

Deno.test("judgeRun() tells the host's failures from the agent's", () => {
  const ended = judgeRun(facts({ end: { kind: "vm_ended", message: "guest rebooted" } }), LIMITS);
  assert.deepEqual([ended.outcome, ended.cause], [
    "host_failed",
    "VM ended while the agent ran: guest rebooted",
  ]);
  assert.equal(judgeRun(facts({ end: { kind: "lost", message: "x" } }), LIMITS).outcome, "host_failed");
  assert.equal(judgeRun(facts({ end: { kind: "cancelled" } }), LIMITS).outcome, "cancelled");
});

Deno.test("judgeRun() calls a run over budget that ended because of it, and done one that got there anyway", () => {
  const lastDecision = decision({ action: "refused", status: 403, reason: "The budget is used up" });
  const limits = { ...LIMITS, lastDecision, overBudget: true };
  const failed = judgeRun(facts({ sawDone: false }), limits);
  assert.deepEqual([failed.outcome, failed.cause], ["budget_exceeded", "The budget is used up"]);
  assert.equal(judgeRun(facts({}), limits).outcome, "done");
});
