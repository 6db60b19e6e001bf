import assert from "node:assert/strict";
import { createApp } from "../../src/api/app.ts";
import { ApiClient, ApiError } from "../../src/api/client.ts";
import { submitOnce } from "../../src/local/remote_tasks.ts";
import { endedAs, TEST_TOKEN, withService } from "../support/task_service.ts";

const SUBMISSION = { agent: "shell", prompt: "true" };

Deno.test("submitOnce() makes one task, even if the first answers are lost on their way", async () => {
  await withService({ runner: () => Promise.resolve(endedAs("done")) }, async ({ service }) => {
    const app = createApp({ service, token: TEST_TOKEN });
    let asked = 0;
    const cut = (): ReadableStream => new ReadableStream({ start: (controller) => controller.error("cut") });
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      async (request) => {
        asked += 1;
        const answer = await app.fetch(request);
        if (asked > 2) return answer;
        await answer.body?.cancel();
        return new Response(cut(), { status: answer.status });
      },
    );
    const client = new ApiClient({ baseUrl: `http://127.0.0.1:${server.addr.port}`, token: TEST_TOKEN });
    const task = await submitOnce(client, SUBMISSION);
    const { tasks } = service.list({ limit: 9 });
    assert.deepEqual([asked, tasks.map(({ id }) => id)], [3, [task.id]]);
    assert.notEqual((await submitOnce(client, SUBMISSION)).id, task.id);
  });
});

Deno.test("submitOnce() asks no more after an answer, and gives up on a server that is gone", async () => {
  let asked = 0;
  const failing = (status: number): Pick<ApiClient, "submit"> => ({
    submit: () => {
      asked += 1;
      return Promise.reject(new ApiError("no", { status, code: "x" }));
    },
  });
  await assert.rejects(submitOnce(failing(422), SUBMISSION), ApiError);
  assert.equal(asked, 1);
  await assert.rejects(submitOnce(failing(0), SUBMISSION), ApiError);
  assert.equal(asked, 5);
});
