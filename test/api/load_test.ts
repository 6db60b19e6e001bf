import assert from "node:assert/strict";
import { parseEventStream } from "../../src/api/client.ts";
import type { TaskRunner } from "../../src/api/task_service.ts";
import { withService } from "../support/service.ts";
import { endedAs } from "../support/task_service.ts";

const NOW = "2026-01-01T00:00:00.000Z";
const TASKS = 1000;
const WATCHERS = 200;
const EVENTS = 300;
/** What a thousand tasks may leave in the server's heap, in bytes: their rows are in the database. */
const MAX_GROWTH = 64 * 1024 * 1024;

/** A command of its own each, as a task would run one. */
const commandRunner: TaskRunner = async ({ request, folder, onEvent }) => {
  onEvent({ type: "phase", phase: "prepare", ms: 1 });
  const { stdout } = await new Deno.Command("echo", { args: [request.prompt] }).output();
  const text = new TextDecoder().decode(stdout).trim();
  onEvent({ type: "agent", event: { v: 1, at: NOW, type: "message", text } });
  await Deno.writeTextFile(`${folder}/changes.patch`, text);
  return { ...endedAs("done"), finalMessage: text };
};

function percentile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)] ?? 0;
}

Deno.test(`${TASKS} tasks of three tokens all end, in fair order, none twice, with the server's heap flat`, async () => {
  const order: string[] = [];
  const runner: TaskRunner = async (options) => {
    order.push(options.request.prompt);
    return await commandRunner(options);
  };
  await withService(
    { runner, queueLimits: { maxVms: 4, maxMemoryMib: 1e6 } },
    async ({ ask, token, service }) => {
      const tokens = [0, 1, 2].map(() => token({ ratePerMinute: 1_000_000 }));
      const submit = async (n: number): Promise<string> => {
        const response = await ask(tokens[n % 3] ?? null, "/v1/tasks", {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ agent: "shell", prompt: `${n}` }),
        });
        assert.equal(response.status, 202);
        return (await response.json() as { id: string }).id;
      };
      const before = Deno.memoryUsage().heapUsed;
      const ids: string[] = [];
      const times: number[] = [];
      for (let n = 0; n < TASKS; n++) {
        ids.push(await submit(n));
        const start = performance.now();
        await (await ask(tokens[n % 3] ?? null, `/v1/tasks/${ids[n]}`)).body?.cancel();
        times.push(performance.now() - start);
      }
      while (service.queue.size > 0) await new Promise((resolve) => setTimeout(resolve, 10));
      const growth = Deno.memoryUsage().heapUsed - before;
      const p99 = percentile(times, 0.99).toFixed(1);
      console.log(
        `GET of a task: p50 ${percentile(times, 0.5).toFixed(1)} ms, p99 ${p99} ms; heap ${
          Math.round(growth / 1e6)
        } MB`,
      );
      assert.equal(new Set(order).size, TASKS);
      assert.equal(order.length, TASKS);
      ids.forEach((id, n) => {
        const { state, result, attempt } = service.view(id);
        assert.deepEqual([state, result?.finalMessage, attempt], ["succeeded", `${n}`, 1]);
      });
      // As they were submitted in turn and each waits no longer than the others, no token is ahead of the others by much
      const counts = [0, 0, 0];
      for (const prompt of order) {
        counts[Number(prompt) % 3] = (counts[Number(prompt) % 3] ?? 0) + 1;
        assert.ok(Math.max(...counts) - Math.min(...counts) <= 5, `${counts} after ${prompt}`);
      }
      assert.ok(growth < MAX_GROWTH, `${growth} bytes`);
    },
  );
});

Deno.test(`${WATCHERS} watchers of a task each see every event, in order`, async () => {
  const watching = Promise.withResolvers<void>();
  const runner: TaskRunner = async ({ onEvent }) => {
    onEvent({ type: "phase", phase: "prepare", ms: 1 });
    await watching.promise;
    for (let n = 0; n < EVENTS; n++) {
      onEvent({ type: "agent", event: { v: 1, at: NOW, type: "message", text: `message ${n}` } });
      if (n % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return endedAs("done");
  };
  await withService({ runner }, async ({ ask, token }) => {
    const text = token();
    const response = await ask(text, "/v1/tasks", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ agent: "shell", prompt: "x" }),
    });
    const { id } = await response.json() as { id: string };
    let started = 0;
    const watch = async (): Promise<string[]> => {
      const stream = await ask(text, `/v1/tasks/${id}/events`);
      started += 1;
      if (started === WATCHERS) watching.resolve();
      const seen: string[] = [];
      for await (const { id: seq, data } of parseEventStream(stream.body ?? new ReadableStream())) {
        seen.push(`${seq} ${(JSON.parse(data) as { type: string }).type}`);
      }
      return seen;
    };
    const all = await Promise.all(Array.from({ length: WATCHERS }, watch));
    const [first = []] = all;
    // queued, preparing, a phase and running before, the state and the result after
    assert.equal(first.length, EVENTS + 6);
    assert.deepEqual(first.map((line) => Number(line.split(" ")[0])), first.map((_, index) => index + 1));
    for (const seen of all) assert.deepEqual(seen, first);
  });
});
