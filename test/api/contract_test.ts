import assert from "node:assert/strict";
import { createApp } from "../../src/api/app.ts";
import { ServiceMetrics } from "../../src/api/metrics.ts";
import type { TaskRunner } from "../../src/api/task_service.ts";
import { ApiFuzzer, type OpenApiDocument } from "../support/api_fuzzer.ts";
import { endedAs, TEST_TOKEN, withService } from "../support/task_service.ts";

const SEED = Number(Deno.env.get("PADDOCK_SEED") ?? 20261123);
/** `PADDOCK_CALLS=2000` takes the time that it takes. */
const CALLS = Number(Deno.env.get("PADDOCK_CALLS") ?? 60);

const runner: TaskRunner = async ({ folder, onEvent }) => {
  onEvent({ type: "phase", phase: "prepare", ms: 1 });
  await Deno.writeTextFile(`${folder}/changes.patch`, "x");
  return endedAs("done");
};

Deno.test("the API answers as its own description says, whatever is sent", async () => {
  const options = {
    runner,
    isDurable: true,
    makeSession: () => Promise.reject(new Error("There is no KVM in this test")),
    fetchRepo: () => Promise.reject(new Error("There is no forge in this test")),
    webhooks: { post: () => Promise.resolve(200) },
  };
  await withService(options, async ({ service, submit }) => {
    const app = createApp({ service, token: TEST_TOKEN, metrics: new ServiceMetrics(service) });
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
    const send = async (path: string, init: RequestInit): Promise<Response> => {
      const headers = new Headers(init.headers);
      headers.set("authorization", `Bearer ${TEST_TOKEN}`);
      return await fetch(`http://127.0.0.1:${server.addr.port}${path}`, { ...init, headers });
    };
    const document = await (await send("/openapi.json", {})).json() as OpenApiDocument;
    assert.ok(Object.keys(document.paths).length > 20);
    await submit();
    const fuzzer = new ApiFuzzer({
      document,
      seed: SEED,
      send,
      // Those that were removed are made up for
      ids: async () => {
        const { tasks } = service.list({ limit: 5 });
        return tasks.length > 2 ? tasks.map(({ id }) => id) : [(await submit()).id];
      },
      known: {
        agent: ["shell", "codex"],
        prompt: ["true"],
        interactive: [],
        uploadId: [],
        repo: [],
        prices: [],
        network: [],
        maxCostUsd: [],
        attached: [false],
      },
    });
    await fuzzer.run(CALLS);
    assert.ok(
      fuzzer.faults.length === 0,
      `${fuzzer.faults.length} faults:\n${fuzzer.faults.slice(0, 20).join("\n")}`,
    );
    // It got past the checks of each route that it can get past
    const accepted = [...fuzzer.seen].filter(([, statuses]) => [...statuses].some((status) => status < 300));
    console.log(`${accepted.length} of ${fuzzer.seen.size} operations gave a success`);
    // Those of sessions need a VM
    assert.ok(accepted.length >= 15, accepted.map(([name]) => name).join(", "));
  });
});
