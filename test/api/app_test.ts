import assert from "node:assert/strict";
import type { ApiRoutes } from "../../src/api/openapi.ts";
import { createApp } from "../../src/api/app.ts";
import { parseEventStream } from "../../src/api/client.ts";
import { submissionSchema, type TaskView } from "../../src/api/schemas.ts";
import { openTaskService, type TaskRunner, type TaskService } from "../../src/api/task_service.ts";
import { lostResult, type TaskResult } from "../../src/session/task.ts";

const TOKEN = "test-token";
const KEY = "sk-secret-of-the-test";

const NOW = "2026-01-01T00:00:00.000Z";
const DONE: TaskResult = {
  ...lostResult("Agent completed its turn"),
  outcome: "done",
  exitCode: 0,
  finalMessage: "hi",
  transcript: { lineCount: 1, truncated: false },
  raw: { lineCount: 1, truncated: false },
};

/** A runner in place of a VM: says one thing, writes three files, ends. */
const quickRunner: TaskRunner = async (options) => {
  options.onEvent({ type: "agent", event: { v: 1, at: NOW, type: "message", text: options.request.prompt } });
  await Deno.writeTextFile(`${options.folder}/changes.patch`, "the patch");
  await Deno.writeTextFile(`${options.folder}/transcript.jsonl`, "{}\n");
  await Deno.writeTextFile(`${options.folder}/network.jsonl`, '{"seq":1}\n');
  return DONE;
};

/** A runner that ends only when it is cancelled. */
const endlessRunner: TaskRunner = async (options) => {
  await new Promise<void>((resolve) =>
    options.signal.addEventListener("abort", () => resolve(), { once: true })
  );
  return { ...DONE, outcome: "cancelled", cause: "Task was cancelled" };
};

interface Setup {
  readonly app: ApiRoutes;
  readonly service: TaskService;
  readonly stateDir: string;
  readonly request: (method: string, path: string, body?: unknown) => Promise<Response>;
}

async function withApp(runner: TaskRunner, use: (setup: Setup) => Promise<void>): Promise<void> {
  const stateDir = await Deno.makeTempDir();
  const service = await openTaskService({ stateDir, runner });
  const app = createApp({ service, token: TOKEN });
  try {
    await use({
      app,
      service,
      stateDir,
      request: async (method, path, body) =>
        await app.request(path, {
          method,
          headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
          ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
        }),
    });
  } finally {
    await service.close();
    await Deno.remove(stateDir, { recursive: true });
  }
}

const SUBMISSION = { agent: "codex", prompt: "do it" } as const;

async function submit(setup: Setup, change: Record<string, unknown> = {}): Promise<TaskView> {
  const response = await setup.request("POST", "/v1/tasks", { ...SUBMISSION, ...change });
  assert.equal(response.status, 202, await response.clone().text());
  return await response.json() as TaskView;
}

async function eventsOf(response: Response): Promise<{ id: string; type: string }[]> {
  const events: { id: string; type: string }[] = [];
  for await (const event of parseEventStream(response.body ?? new ReadableStream())) {
    events.push({ id: event.id, type: (JSON.parse(event.data) as { type: string }).type });
  }
  return events;
}

Deno.test("every route refuses a request without the right token", async () => {
  await withApp(quickRunner, async ({ app }) => {
    const paths = ["/v1/tasks", "/v1/tasks/x", "/v1/tasks/x/events", "/v1/uploads", "/", "/nowhere"];
    const tokens = [undefined, "", "Bearer ", "Bearer wrong", `bearer ${TOKEN}x`, TOKEN, `Basic ${TOKEN}`];
    for (const path of paths) {
      for (const token of tokens) {
        const response = await app.request(
          path,
          token === undefined ? {} : { headers: { authorization: token } },
        );
        assert.equal(response.status, 401, `${path} ${token}`);
        await response.body?.cancel();
      }
    }
  });
});

Deno.test("an app without a token lets nobody in", async () => {
  const stateDir = await Deno.makeTempDir();
  const service = await openTaskService({ stateDir, runner: quickRunner });
  const response = await createApp({ service, token: "" }).request("/v1/tasks", {
    headers: { authorization: "Bearer " },
  });
  assert.equal(response.status, 401);
  await response.body?.cancel();
  await service.close();
  await Deno.remove(stateDir, { recursive: true });
});

Deno.test("a task goes from its submission through its events to its result and its files", async () => {
  await withApp(quickRunner, async (setup) => {
    const { id } = await submit(setup);
    const events = await eventsOf(await setup.request("GET", `/v1/tasks/${id}/events`));
    const types = ["state", "state", "agent", "state", "result"];
    assert.deepEqual(events, types.map((type, index) => ({ id: String(index + 1), type })));
    const result = await (await setup.request("GET", `/v1/tasks/${id}/result`)).json() as TaskResult;
    assert.equal(result.outcome, "done");
    assert.equal(await (await setup.request("GET", `/v1/tasks/${id}/patch`)).text(), "the patch");
    assert.equal(await (await setup.request("GET", `/v1/tasks/${id}/network`)).text(), '{"seq":1}\n');
    assert.equal((await setup.request("GET", `/v1/tasks/${id}/workspace`)).status, 404);
    assert.equal((await setup.request("DELETE", `/v1/tasks/${id}`)).status, 204);
    assert.equal((await setup.request("GET", `/v1/tasks/${id}`)).status, 404);
    assert.deepEqual(Array.from(Deno.readDirSync(`${setup.stateDir}/tasks`)), []);
  });
});

Deno.test("events go on after the last one that the client has", async () => {
  await withApp(quickRunner, async (setup) => {
    const { id } = await submit(setup);
    await eventsOf(await setup.request("GET", `/v1/tasks/${id}/events`));
    const response = await setup.app.request(`/v1/tasks/${id}/events`, {
      headers: { authorization: `Bearer ${TOKEN}`, "last-event-id": "4" },
    });
    assert.deepEqual(await eventsOf(response), [{ id: "5", type: "result" }]);
  });
});

Deno.test("a task can be cancelled, and has no result before it is over", async () => {
  await withApp(endlessRunner, async (setup) => {
    const { id } = await submit(setup);
    assert.equal((await setup.request("GET", `/v1/tasks/${id}/result`)).status, 409);
    assert.equal((await setup.request("GET", `/v1/tasks/${id}/patch`)).status, 409);
    const events = setup.request("GET", `/v1/tasks/${id}/events`).then(eventsOf);
    assert.equal((await setup.request("POST", `/v1/tasks/${id}/cancel`)).status, 202);
    assert.deepEqual((await events).map((event) => event.type), ["state", "state", "state", "result"]);
    assert.equal(setup.service.activeCount, 0);
  });
});

Deno.test("the key of the model's API is nowhere in the state folder", async () => {
  let seen: string | undefined;
  const runner: TaskRunner = (options) => {
    seen = options.credentials.headers[0]?.value;
    return quickRunner(options);
  };
  await withApp(runner, async (setup) => {
    const { id } = await submit(setup, { apiKey: KEY });
    await eventsOf(await setup.request("GET", `/v1/tasks/${id}/events`));
    assert.equal(seen, `Bearer ${KEY}`);
    const found = await new Deno.Command("grep", { args: ["-rl", KEY, setup.stateDir] }).output();
    assert.equal(new TextDecoder().decode(found.stdout), "");
  });
});

Deno.test("a login's headers are nowhere in the state folder, and can be renewed while the task runs", async () => {
  const seen: (string | undefined)[] = [];
  const renewed = Promise.withResolvers<void>();
  const runner: TaskRunner = async (options) => {
    seen.push(options.credentials.headers[0]?.value);
    await renewed.promise;
    seen.push(options.credentials.headers[0]?.value);
    return await quickRunner(options);
  };
  await withApp(runner, async (setup) => {
    const headers = (secret: string): unknown => [{ name: "authorization", value: `Bearer ${secret}` }];
    const { id } = await submit(setup, { modelHeaders: headers(`${KEY}-1`) });
    while (seen.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const path = `/v1/tasks/${id}/credentials`;
    assert.equal((await setup.request("PUT", path, [{ name: "x", value: "a\nb" }])).status, 400);
    assert.equal((await setup.request("PUT", path, [])).status, 400);
    assert.equal((await setup.request("PUT", path, headers(`${KEY}-2`))).status, 204);
    renewed.resolve();
    const text = await (await setup.request("GET", `/v1/tasks/${id}/events`)).text();
    const view = await (await setup.request("GET", `/v1/tasks/${id}`)).text();
    assert.ok(!text.includes(KEY) && !view.includes(KEY));
    assert.deepEqual(seen, [`Bearer ${KEY}-1`, `Bearer ${KEY}-2`]);
    assert.equal((await setup.request("PUT", path, headers(KEY))).status, 409);
    assert.equal((await setup.request("PUT", "/v1/tasks/none/credentials", headers(KEY))).status, 404);
    const found = await new Deno.Command("grep", { args: ["-rl", KEY, setup.stateDir] }).output();
    assert.equal(new TextDecoder().decode(found.stdout), "");
  });
});

Deno.test("a submission that does not fit is refused with the reason", async () => {
  await withApp(quickRunner, async (setup) => {
    const cases: [unknown, RegExp][] = [
      [{}, /agent/],
      ["{", /JSON/],
      [[], /body/],
      [{ ...SUBMISSION, agent: "hal" }, /no agent "hal"/],
      [{ ...SUBMISSION, agent: "__proto__" }, /no agent/],
      [{ ...SUBMISSION, prompt: "a\0b" }, /NUL/],
      [{ ...SUBMISSION, prompt: "é".repeat(30_000) }, /bytes/],
      [{ ...SUBMISSION, memoryMib: 1e9 }, /memoryMib/],
      [{ ...SUBMISSION, cpus: 0 }, /cpus/],
      [{ ...SUBMISSION, timeoutMs: -1 }, /timeoutMs/],
      [{ ...SUBMISSION, modelUrl: "file:///etc/passwd" }, /modelUrl/],
      [{ ...SUBMISSION, apiKey: "a\r\nx-evil: 1" }, /apiKey/],
      [{ ...SUBMISSION, uploadId: "../../x" }, /uploadId/],
      [{ ...SUBMISSION, network: { mode: "all" } }, /network\.mode/],
      [{ ...SUBMISSION, network: { allow: ["10.0.0.1"] } }, /addresses cannot be allowed, only names/],
      [{ ...SUBMISSION, network: { profiles: ["all"] } }, /no network profile "all"/],
      [{ ...SUBMISSION, network: { project: { source: "f", deny: ["*"] } } }, /Cannot use rule "\*"/],
      [{ ...SUBMISSION, surprise: 1 }, /surprise/],
    ];
    for (const [body, reason] of cases) {
      const response = await setup.request("POST", "/v1/tasks", body);
      const problem = await response.json() as { status: number; detail: string };
      assert.equal(response.status, 400, JSON.stringify(body));
      assert.equal(response.headers.get("content-type"), "application/problem+json");
      assert.match(problem.detail, reason);
    }
    assert.equal(setup.service.activeCount, 0);
  });
});

Deno.test("a submission that names an upload which is not there leaves no task", async () => {
  await withApp(quickRunner, async (setup) => {
    const response = await setup.request("POST", "/v1/tasks", { ...SUBMISSION, uploadId: "abcdefghij" });
    assert.equal(response.status, 404);
    await response.body?.cancel();
    assert.deepEqual(setup.service.list({ limit: 10 }).tasks, []);
    assert.equal(setup.service.activeCount, 0);
  });
});

Deno.test("an upload reaches its task once", async () => {
  let content: string | undefined;
  const runner: TaskRunner = async (options) => {
    content = await Deno.readTextFile(options.workspaceTar ?? "");
    return await quickRunner(options);
  };
  await withApp(runner, async (setup) => {
    const upload = await (await setup.request("POST", "/v1/uploads", "archive")).json() as { id: string };
    const { id } = await submit(setup, { uploadId: upload.id });
    await eventsOf(await setup.request("GET", `/v1/tasks/${id}/events`));
    assert.equal(content, "archive");
    const again = await setup.request("POST", "/v1/tasks", { ...SUBMISSION, uploadId: upload.id });
    assert.equal(again.status, 404);
    await again.body?.cancel();
  });
});

Deno.test("no more tasks run at once than there is room for: others wait, unless somebody waits for them", async () => {
  await withApp(endlessRunner, async (setup) => {
    for (let count = 0; count < 8; count++) assert.equal((await submit(setup)).state, "preparing");
    assert.equal((await submit(setup)).state, "queued");
    const response = await setup.request("POST", "/v1/tasks", { ...SUBMISSION, attached: true });
    assert.equal(response.status, 429);
    await response.body?.cancel();
  });
});

Deno.test("a runner that throws makes a result that says so", async () => {
  await withApp(() => Promise.reject(new Error("disk is full")), async (setup) => {
    const { id } = await submit(setup);
    await eventsOf(await setup.request("GET", `/v1/tasks/${id}/events`));
    const { result } = await (await setup.request("GET", `/v1/tasks/${id}`)).json() as TaskView;
    assert.equal(result?.outcome, "host_failed");
    assert.match(result?.cause ?? "", /disk is full/);
  });
});

Deno.test("closing a service ends its tasks and forgets those that somebody had to follow", async () => {
  const stateDir = await Deno.makeTempDir();
  const first = await openTaskService({ stateDir, runner: endlessRunner });
  await first.submit(submissionSchema.parse({ ...SUBMISSION, attached: true }));
  const kept = await first.submit(submissionSchema.parse(SUBMISSION));
  await first.close();
  const second = await openTaskService({ stateDir, runner: endlessRunner });
  assert.deepEqual(second.list({ limit: 10 }).tasks.map((task) => [task.id, task.result?.outcome]), [[
    kept.id,
    "cancelled",
  ]]);
  await second.close();
  await Deno.remove(stateDir, { recursive: true });
});
