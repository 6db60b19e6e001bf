import assert from "node:assert/strict";
import { ServiceMetrics } from "../../src/api/metrics.ts";
import { createApp } from "../../src/api/app.ts";
import { endedAs, HeldRuns, TEST_TOKEN, withService } from "../support/task_service.ts";

const BODY = { agent: "shell", prompt: "true" };

Deno.test("a database that is full, and one that is locked, are said to be so, and all goes on when there is room", async () => {
  const runs = new HeldRuns();
  await withService({ runner: runs.run }, async ({ request, service, submit, over, stateDir }) => {
    const { id } = await submit();
    while (runs.runningCount === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    const { database } = service.store;
    const pages = Number(database.prepare("PRAGMA page_count").get()?.page_count);
    // SQLite's own limit on the file's size gives what a full disk gives
    database.exec(`PRAGMA max_page_count = ${pages}`);
    const full = await request("POST", "/v1/tasks", { body: { ...BODY, prompt: "x".repeat(50_000) } });
    const problem = await full.json() as { code: string; detail: string };
    assert.deepEqual([full.status, problem.code], [503, "unavailable"]);
    assert.match(problem.detail, /disk is full/);
    assert.equal((await request("GET", `/v1/tasks/${id}`)).status, 200);
    database.exec("PRAGMA max_page_count = 1000000");
    runs.end();
    assert.equal((await over(id)).state, "succeeded");

    const other = new (await import("node:sqlite")).DatabaseSync(`${stateDir}/paddock.sqlite`);
    other.exec("BEGIN EXCLUSIVE");
    database.exec("PRAGMA busy_timeout = 50");
    const busy = await request("POST", "/v1/tasks", { body: BODY });
    assert.equal(busy.status, 503);
    assert.match(await busy.text(), /try again/);
    assert.equal((await request("GET", "/readyz")).status, 503);
    other.exec("ROLLBACK");
    other.close();
    assert.equal((await request("GET", "/readyz")).status, 200);
    assert.equal((await request("POST", "/v1/tasks", { body: BODY })).status, 202);
    assert.equal(database.prepare("PRAGMA integrity_check").get()?.integrity_check, "ok");
  });
});

Deno.test("health needs no token, metrics need one and count what happened", async () => {
  await withService(
    { runner: () => Promise.resolve(endedAs("timeout")) },
    async ({ service, submit, over }) => {
      const app = createApp({ service, token: TEST_TOKEN, metrics: new ServiceMetrics(service) });
      for (let count = 0; count < 3; count++) await over((await submit()).id);
      for (const path of ["/healthz", "/readyz"]) assert.equal((await app.request(path)).status, 200, path);
      assert.equal((await app.request("/metrics")).status, 401);
      const headers = { authorization: `Bearer ${TEST_TOKEN}` };
      const text = await (await app.request("/metrics", { headers })).text();
      assert.match(text, /^paddock_tasks\{state="timed_out"\} 3$/m);
      assert.match(text, /^paddock_tasks\{state="queued"\} 0$/m);
      assert.match(text, /^paddock_task_ends_total\{outcome="timeout"\} 3$/m);
      assert.match(text, /^paddock_task_queue_seconds_count 3$/m);
      assert.match(text, /^paddock_vms\{kind="task"\} 0$/m);
    },
  );
});
