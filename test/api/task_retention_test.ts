import assert from "node:assert/strict";
import { endedAs, withService } from "../support/task_service.ts";

const RETAIN_MS = 300;

async function until(isSo: () => boolean): Promise<void> {
  const limit = AbortSignal.timeout(10_000);
  while (!isSo()) {
    limit.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

Deno.test("tasks that are over are forgotten after their time, unless their end is still to be told", async () => {
  const goOn = Promise.withResolvers<void>();
  const options = {
    isDurable: true,
    retainMs: RETAIN_MS,
    webhooks: { post: () => Promise.reject(new Error("nobody listens")), pausesMs: [60_000] },
    runner: async ({ request }: { request: { prompt: string } }) => {
      if (request.prompt === "wait") await goOn.promise;
      return endedAs("done");
    },
  };
  await withService(options, async ({ service, submit, over, stateDir }) => {
    const running = await submit({ prompt: "wait" });
    const told = await submit({ webhook: { url: "https://example.com/" } });
    const old = await submit({});
    await over(told.id);
    const endedAt = Date.parse((await over(old.id)).endedAt ?? "");
    const ids = (): string[] => service.list({ limit: 9 }).tasks.map(({ id }) => id);
    await until(() => !ids().includes(old.id));
    assert.ok(Date.now() - endedAt >= RETAIN_MS);
    assert.deepEqual(ids().toSorted(), [running.id, told.id].toSorted());
    assert.deepEqual(
      Array.from(Deno.readDirSync(`${stateDir}/tasks`), ({ name }) => name).toSorted(),
      [running.id, told.id].toSorted(),
    );
    goOn.resolve();
    await until(() => !ids().includes(running.id));
  });
});

Deno.test("a queue that drains lets what runs end, starts nothing, and takes what comes for the next server", async () => {
  const goOn = Promise.withResolvers<void>();
  const runner = async (): Promise<ReturnType<typeof endedAs>> => {
    await goOn.promise;
    return endedAs("done");
  };
  const limits = { maxVms: 1, maxMemoryMib: 4096 };
  await withService({ runner, limits, isDurable: true }, async ({ service, submit, request }) => {
    const running = await submit({});
    const waiting = await submit({});
    let isDrained = false;
    const drained = service.queue.drain(60_000).then(() => isDrained = true);
    assert.equal((await request("GET", "/readyz")).status, 503);
    const late = await submit({});
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(isDrained, false);
    goOn.resolve();
    await drained;
    const states = [running, waiting, late].map(({ id }) => service.view(id).state);
    assert.deepEqual(states, ["succeeded", "queued", "queued"]);
  });
});

Deno.test("a queue that drains does not wait for longer than it may", async () => {
  const runner = ({ signal }: { signal: AbortSignal }): Promise<ReturnType<typeof endedAs>> =>
    new Promise((resolve) => signal.addEventListener("abort", () => resolve(endedAs("cancelled"))));
  await withService({ runner, isDurable: true }, async ({ service, submit }) => {
    const { id } = await submit({});
    const start = performance.now();
    await service.queue.drain(100);
    assert.ok(performance.now() - start < 5000);
    assert.equal(service.view(id).state, "preparing");
  });
});
