import assert from "node:assert/strict";
import { startModelServer } from "../support/model_server/model_server.ts";
import { assertNothingLeft, sandbox, withFolder } from "../support/sandbox_cli.ts";

/** Longest time that a run with a failing model may take, emulation included, in `ms`. */
const LIMIT_MS = 240_000;

function closedPort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

interface Case {
  readonly name: string;
  /** part of the model's URL before /v1; undefined: nobody listens there */
  readonly prefix: string | undefined;
  readonly args?: readonly string[];
  readonly code: number;
  readonly cause: RegExp;
}

const CASES: readonly Case[] = [
  { name: "refuses connections", prefix: undefined, code: 1, cause: /cannot be reached/ },
  { name: "answers 401", prefix: "/fault/401", code: 1, cause: /401.*Incorrect API key provided/s },
  { name: "answers 429", prefix: "/fault/429", code: 1, cause: /429.*Rate limit reached/s },
  { name: "answers 500", prefix: "/fault/500", code: 1, cause: /500.*The server had an error/s },
  {
    name: "cuts its answers",
    prefix: "/fault/cut",
    code: 1,
    cause: /stream disconnected.*cut its answer short/s,
  },
  {
    name: "goes silent",
    prefix: "/fault/silent",
    args: ["--model-idle-timeout", "5s"],
    code: 1,
    cause: /silen/,
  },
  { name: "fails in its stream", prefix: "/fault/failed", code: 1, cause: /failed on purpose/ },
  { name: "fails in the second turn", prefix: "/fault/second-500", code: 1, cause: /500/ },
  {
    name: "uses up the task's budget",
    prefix: "",
    args: ["--max-tokens", "100"],
    code: 5,
    cause: /budget of 100 tokens is used up \(120 were used\)/,
  },
  {
    name: "costs more than the task may",
    prefix: "",
    // A request of Codex's own model, with 100 tokens of input and 20 of output, costs 0.0004
    args: ["--max-cost", "0.0002"],
    code: 5,
    cause: /budget of \$0\.0002 is used up \(\$0\.0004 were spent\)/,
  },
  {
    name: "is silent until the time limit",
    prefix: "/fault/silent",
    args: ["--timeout", "60s"],
    code: 4,
    cause: /did not finish within 60 s.*silence/s,
  },
];

/** Runs at the same time: most of a run is waiting. */
const AT_ONCE = 3;

async function runWithFault({ prefix, args = [], code, cause }: Case): Promise<void> {
  const server = startModelServer();
  await withFolder(async (folder) => {
    const base = prefix === undefined ? `http://127.0.0.1:${closedPort()}` : `${server.url}${prefix}`;
    const words = ["run", "codex", "do it", "--model-url", `${base}/v1`, "--out", `${folder}/out`, ...args];
    const result = await sandbox(words, { OPENAI_API_KEY: "sk-e2e" });
    assert.equal(result.code, code, result.stdout + result.stderr);
    const document = JSON.parse(await Deno.readTextFile(`${folder}/out/result.json`)) as { cause: string };
    assert.match(document.cause, cause);
    assert.ok(result.ms < LIMIT_MS, `took ${result.ms} ms`);
  }).finally(() => server.close());
}

Deno.test("a run whose model fails ends in bounded time with a cause", async (test) => {
  const waiting = [...CASES];
  const unchecked = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };
  const runInTurn = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const fault = next;
      await test.step({ name: `the model ${fault.name}`, fn: () => runWithFault(fault), ...unchecked });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, runInTurn));
  await assertNothingLeft();
});
