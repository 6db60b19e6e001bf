import assert from "node:assert/strict";
import { type AgentRunFacts, type AgentRunOptions, runAgent } from "../../src/session/agent_run.ts";
import type { AgentEvent, AgentSpec } from "../../agent-images/agent_spec.ts";
import type { GuestCommand, GuestExit } from "../../src/session/guest_client.ts";
import type { RunningCommand } from "../../src/session/run_end.ts";
import { spec as codex } from "../../agent-images/codex/agent.ts";

const EXIT_0: GuestExit = { exitCode: 0, signal: null, timedOut: false };
const never = new Promise<never>(() => {});

/** What a fake guest does with the command; `signals` tells what it was sent. */
type Behaviour = (command: GuestCommand, signals: AsyncGenerator<number>) => Promise<GuestExit>;

interface Outcome {
  readonly facts: AgentRunFacts;
  readonly events: AgentEvent[];
  readonly sent: number[];
  readonly raw: string;
}

/** Runs an agent against a guest that exists only in the test. */
async function runWith(behaviour: Behaviour, change: Partial<AgentRunOptions> = {}): Promise<Outcome> {
  const folder = await Deno.makeTempDir();
  const sent: number[] = [];
  const waiters: ((signalNumber: number) => void)[] = [];
  async function* signals(): AsyncGenerator<number> {
    for (;;) yield await new Promise<number>((resolve) => waiters.push(resolve));
  }
  const exec = (command: GuestCommand): Promise<RunningCommand> => {
    const exit = behaviour(command, signals());
    exit.catch(() => {});
    return Promise.resolve({
      exit,
      signal: (signalNumber) => {
        sent.push(signalNumber);
        for (const waiter of waiters.splice(0)) waiter(signalNumber);
        return Promise.resolve();
      },
      close: () => {},
    });
  };
  const events: AgentEvent[] = [];
  const facts = await runAgent({
    guest: { exec },
    spec: codex,
    task: { prompt: "do it", gatewayUrl: "http://gateway", timeoutMs: 60_000 },
    timeoutMs: 5000,
    termGraceMs: 50,
    signal: new AbortController().signal,
    vmEnded: never,
    rawPath: `${folder}/raw.jsonl`,
    onEvent: (event) => events.push(event),
    onStderr: () => {},
    ...change,
  });
  const raw = await Deno.readTextFile(`${folder}/raw.jsonl`);
  await Deno.remove(folder, { recursive: true });
  return { facts, events, sent, raw };
}

const say = (command: GuestCommand, text: string): void | Promise<void> =>
  command.onStdout(new TextEncoder().encode(text));

const TURN = `{"type":"item.completed","item":{"id":"1","type":"agent_message","text":"hello"}}
{"type":"turn.completed","usage":{"input_tokens":5,"cached_input_tokens":1,"output_tokens":2}}
`;

Deno.test("runAgent() gives what a run amounts to, and its raw lines", async () => {
  const { facts, events, raw } = await runWith(async (command) => {
    for (const piece of [TURN.slice(0, 30), TURN.slice(30, 100), TURN.slice(100)]) await say(command, piece);
    return EXIT_0;
  });
  assert.deepEqual(facts.end, { kind: "exited", exit: EXIT_0 });
  assert.deepEqual([facts.sawDone, facts.finalMessage, facts.raw.lineCount], [true, "hello", 2]);
  assert.deepEqual(facts.usage, { inputTokens: 5, cachedTokens: 1, outputTokens: 2 });
  assert.deepEqual(events.map((event) => event.type), ["message", "usage", "done"]);
  assert.equal(raw, TURN);
});

Deno.test("runAgent() runs the command as the user agent in the workspace, with the placeholder for a key", async () => {
  let seen: GuestCommand | undefined;
  await runWith((command) => {
    seen = command;
    return Promise.resolve(EXIT_0);
  });
  assert.deepEqual([seen?.user, seen?.cwd, seen?.argv[0]], ["agent", "/workspace", "codex"]);
  assert.equal(seen?.argv.at(-1), "do it");
});

Deno.test("runAgent() ends a run at its deadline, first with SIGTERM", async () => {
  const { facts, sent } = await runWith(async (_, signals) => {
    const { value } = await signals.next();
    return { exitCode: null, signal: Number(value), timedOut: false };
  }, { timeoutMs: 20 });
  assert.deepEqual(facts.end, { kind: "deadline" });
  assert.deepEqual([sent, facts.exit?.signal], [[15], 15]);
});

Deno.test("runAgent() kills an agent that ignores SIGTERM", async () => {
  const { facts, sent } = await runWith(async (_, signals) => {
    for await (const signalNumber of signals) {
      if (signalNumber === 9) return { exitCode: null, signal: 9, timedOut: false };
    }
    return EXIT_0;
  }, { timeoutMs: 20 });
  assert.deepEqual([sent, facts.exit?.signal], [[15, 9], 9]);
});

Deno.test("runAgent() ends when it is cancelled, whatever the agent does", async () => {
  const cancel = new AbortController();
  setTimeout(() => cancel.abort(), 20);
  const { facts } = await runWith(() => never, { signal: cancel.signal });
  assert.deepEqual(facts.end, { kind: "cancelled" });
});

Deno.test("runAgent() ends when the VM does, and prefers the VM's account to a broken connection", async () => {
  const vmEnded = Promise.resolve({ type: "stopped", reason: "reset", exits: {} } as const);
  const { facts } = await runWith(() => Promise.reject(new Error("connection reset")), { vmEnded });
  assert.equal(facts.end.kind, "vm_ended");
  const lost = await runWith(() => Promise.reject(new Error("connection reset")));
  assert.deepEqual(lost.facts.end, { kind: "lost", message: "connection reset" });
});

Deno.test("runAgent() survives an agent that prints one line without end", async () => {
  const { facts } = await runWith(async (command) => {
    for (let count = 0; count < 100; count++) await say(command, "x".repeat(100_000));
    await say(command, `\n${TURN}`);
    return EXIT_0;
  });
  assert.deepEqual([facts.sawDone, facts.raw.truncated], [true, true]);
});

Deno.test("runAgent() keeps the first fatal error", async () => {
  const failing: AgentSpec = {
    ...codex,
    newParser: () => ({
      line: (line) => [{ type: "error", message: line, fatal: line !== "warning" }],
      end: () => [],
    }),
  };
  const { facts } = await runWith(async (command) => {
    await say(command, "warning\nfirst\nsecond\n");
    return EXIT_0;
  }, { spec: failing });
  assert.equal(facts.fatalMessage, "first");
});
