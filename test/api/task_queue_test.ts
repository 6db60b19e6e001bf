import assert from "node:assert/strict";
import { LOCAL_PRINCIPAL, type Principal } from "../../src/api/principal.ts";
import { submissionSchema } from "../../src/api/schemas.ts";
import { openTaskService, type TaskRunner } from "../../src/api/task_service.ts";
import { endedAs, HeldRuns, withService, withServiceOn } from "../support/task_service.ts";

async function until(condition: () => boolean): Promise<void> {
  const limit = AbortSignal.timeout(30_000);
  while (!condition()) {
    limit.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function withFolder(use: (stateDir: string) => Promise<void>): Promise<void> {
  const stateDir = await Deno.makeTempDir();
  try {
    await use(stateDir);
  } finally {
    await Deno.remove(stateDir, { recursive: true });
  }
}

/** Ends all that runs, one after the other, until nothing does. */
async function drain(runs: HeldRuns, total: number): Promise<void> {
  for (let ended = 0; ended < total; ended++) {
    await until(() => runs.runningCount > 0);
    runs.end();
  }
}

Deno.test("tasks of several tokens are started in turn, with no more at once than the limit", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run, limits: { maxVms: 1, maxMemoryMib: 4096 } }, async ({ service }) => {
    const submit = async (tokenId: string, prompt: string): Promise<void> => {
      const principal: Principal = { ...LOCAL_PRINCIPAL, tokenId };
      await service.submit(submissionSchema.parse({ agent: "shell", prompt }), { principal });
    };
    for (const n of [1, 2, 3]) await submit("a", `a${n}`);
    for (const n of [1, 2]) await submit("b", `b${n}`);
    await submit("c", "c1");
    await until(() => runs.runningCount === 1);
    assert.equal(service.queue.runningCount, 1);
    await drain(runs, 6);
    assert.deepEqual(runs.started, ["a1", "b1", "c1", "a2", "b2", "a3"]);
  });
});

Deno.test("what does not fit beside what runs waits, and nothing goes past it", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run, limits: { maxVms: 9, maxMemoryMib: 2048 } }, async (setup) => {
    await setup.submit({ prompt: "half", memoryMib: 1024 });
    await setup.submit({ prompt: "whole", memoryMib: 2048 });
    await setup.submit({ prompt: "small", memoryMib: 128 });
    await until(() => runs.runningCount === 1);
    runs.end();
    await until(() => runs.started.length === 2);
    runs.end();
    await until(() => runs.started.length === 3);
    assert.deepEqual(runs.started, ["half", "whole", "small"]);
    runs.end();
    const response = await setup.request("POST", "/v1/tasks", {
      body: { agent: "shell", prompt: "x", memoryMib: 4096 },
    });
    assert.equal(response.status, 400);
    assert.match(await response.text(), /2048 MiB/);
  });
});

Deno.test("a task that waits can be cancelled, and never runs", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run, limits: { maxVms: 1, maxMemoryMib: 9999 } }, async (setup) => {
    const first = await setup.submit({ prompt: "first" });
    const second = await setup.submit({ prompt: "second" });
    assert.equal((await setup.request("POST", `/v1/tasks/${second.id}/cancel`)).status, 202);
    assert.equal((await setup.request("POST", `/v1/tasks/${second.id}/cancel`)).status, 202);
    assert.equal(setup.service.view(second.id).state, "cancelled");
    await until(() => runs.runningCount === 1);
    runs.end();
    assert.equal((await setup.over(first.id)).state, "succeeded");
    assert.deepEqual(runs.started, ["first"]);
  });
});

Deno.test("each outcome has its state, and the state's event has its cause", async () => {
  const outcomes = [
    ["done", "succeeded"],
    ["agent_failed", "failed"],
    ["host_failed", "failed"],
    ["timeout", "timed_out"],
    ["budget_exceeded", "budget_exceeded"],
    ["cancelled", "cancelled"],
  ] as const;
  for (const [outcome, state] of outcomes) {
    await withService({ runner: () => Promise.resolve(endedAs(outcome)) }, async (setup) => {
      const { id } = await setup.submit();
      const view = await setup.over(id);
      assert.deepEqual([view.state, view.cause], [state, `It is ${outcome}`]);
      const bodies = setup.service.store.events.after(id, 0, 9).map(({ body }) => JSON.parse(body));
      assert.deepEqual(bodies.at(-2), { type: "state", state, cause: `It is ${outcome}` });
      assert.equal(bodies.at(-1).type, "result");
    });
  }
});

Deno.test("a task whose host failed is tried anew as often as it says, in a folder without the last try's files", async () => {
  let runCount = 0;
  const runner: TaskRunner = async ({ folder }) => {
    runCount += 1;
    assert.deepEqual(Array.from(Deno.readDirSync(folder)), []);
    await Deno.writeTextFile(`${folder}/changes.patch`, "x");
    return endedAs("host_failed");
  };
  await withService({ runner }, async (setup) => {
    const { id } = await setup.submit({ retry: 2 });
    const view = await setup.over(id);
    assert.deepEqual([view.state, view.attempt, runCount], ["failed", 3, 3]);
    const states = setup.service.store.events.after(id, 0, 99)
      .map(({ body }) => JSON.parse(body)).filter(({ type }) => type === "state").map(({ state }) => state);
    const once = ["queued", "preparing", "failed"];
    assert.deepEqual(states, [...once, ...once, ...once]);
  });
});

Deno.test("what the agent itself got wrong is not tried anew", async () => {
  await withService({ runner: () => Promise.resolve(endedAs("agent_failed")) }, async (setup) => {
    const { id } = await setup.submit({ retry: 3 });
    assert.equal((await setup.over(id)).attempt, 1);
  });
});

Deno.test("a durable server leaves what waits, and what may be tried anew, to the next one", async () => {
  await withFolder(async (stateDir) => {
    const runs = new HeldRuns();
    const ids: string[] = [];
    const limits = { maxVms: 2, maxMemoryMib: 99_999 };
    await withServiceOn({ stateDir, runner: runs.run, isDurable: true, limits }, async ({ submit }) => {
      for (const retry of [0, 1]) ids.push((await submit({ prompt: `runs ${retry}`, retry })).id);
      ids.push((await submit({ prompt: "waits" })).id);
      ids.push((await submit({ prompt: "waits with its own key", agent: "codex", apiKey: "k" })).id);
      await until(() => runs.runningCount === 2);
    });
    const next = new HeldRuns();
    await withServiceOn(
      { stateDir, runner: next.run, isDurable: true, limits },
      async ({ service, over }) => {
        await until(() => next.runningCount === 2);
        assert.deepEqual(next.started.toSorted(), ["runs 1", "waits"]);
        next.end();
        next.end();
        const ends = await Promise.all(ids.map(over));
        assert.deepEqual(ends.map(({ state }) => state), [
          "interrupted",
          "succeeded",
          "succeeded",
          "interrupted",
        ]);
        assert.match(ends[3]?.cause ?? "", /own key/);
        for (const id of ids) {
          const seqs = service.store.events.after(id, 0, 99).map(({ seq }) => seq);
          assert.deepEqual(seqs, seqs.map((_, index) => index + 1));
        }
      },
    );
  });
});

Deno.test("a server that is not durable ends what it has, and takes nothing over", async () => {
  await withFolder(async (stateDir) => {
    const runs = new HeldRuns();
    const durable = {
      stateDir,
      runner: runs.run,
      isDurable: true,
      limits: { maxVms: 1, maxMemoryMib: 9999 },
    };
    let id = "";
    await withServiceOn(durable, async ({ submit }) => {
      await submit();
      id = (await submit({ prompt: "waits" })).id;
    });
    await withServiceOn({ stateDir, runner: runs.run }, ({ service }) => {
      assert.equal(service.view(id).state, "queued");
      assert.equal(service.activeCount, 0);
      return Promise.resolve();
    });
  });
});

Deno.test("a submission with a key is taken once, and refused when it is another one", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run }, async ({ request, service }) => {
    const headers = { "idempotency-key": "k1" };
    const post = async (body: unknown): Promise<[number, string]> => {
      const response = await request("POST", "/v1/tasks", { body, headers });
      return [response.status, (await response.json() as { id?: string; code: string }).id ?? ""];
    };
    const first = await post({ agent: "shell", prompt: "a", files: { "a/b.txt": "x" } });
    const again = await post({ files: { "a/b.txt": "x" }, prompt: "a", agent: "shell" });
    assert.deepEqual([first[0], again[0], again[1]], [202, 202, first[1]]);
    assert.deepEqual(await post({ agent: "shell", prompt: "b" }), [422, ""]);
    assert.equal(service.list({ limit: 9 }).tasks.length, 1);
    assert.equal(service.store.uploads.all().length, 1);
  });
});

Deno.test("a token has no more tasks at once than it may have", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run }, async ({ service }) => {
    const principal: Principal = { tokenId: "a", scopes: new Set(["tasks:write"]), maxActive: 2 };
    const submit = async (): Promise<unknown> =>
      await service.submit(submissionSchema.parse({ agent: "shell", prompt: "x" }), { principal });
    await submit();
    await submit();
    await assert.rejects(submit, /2 tasks and sessions at once/);
    await until(() => runs.runningCount === 2);
    runs.end();
    await until(() => service.queue.size === 1);
    await submit();
  });
});

Deno.test("another token's task is not there", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run }, async ({ service, submit }) => {
    const { id } = await submit();
    const other: Principal = { tokenId: "other", scopes: new Set(["tasks:read"]) };
    assert.throws(() => service.view(id, other), /no task/);
    assert.equal(service.view(id, LOCAL_PRINCIPAL).id, id);
  });
});

Deno.test("200 tasks are each run once, whatever order they end in", async () => {
  const counts = new Map<string, number>();
  const runner: TaskRunner = async ({ id }) => {
    counts.set(id, (counts.get(id) ?? 0) + 1);
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
    return endedAs("done");
  };
  await withFolder(async (stateDir) => {
    const service = await openTaskService({ stateDir, runner, limits: { maxVms: 4, maxMemoryMib: 1e6 } });
    const one = submissionSchema.parse({ agent: "shell", prompt: "x" });
    const views = await Promise.all(Array.from({ length: 200 }, () => service.submit(one)));
    await until(() => service.queue.size === 0);
    assert.deepEqual(views.map(({ id }) => counts.get(id)), views.map(() => 1));
    await service.close();
  });
});
