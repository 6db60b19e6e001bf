import assert from "node:assert/strict";
import { LOCAL_PRINCIPAL } from "../../src/api/principal.ts";
import { signWebhook } from "../../src/api/webhook_sender.ts";
import { HOST_OUTSIDE, type Outside } from "../../src/network/outside.ts";
import { type OutsidePost, postOutside } from "../../src/network/post_outside.ts";
import type { TaskResult } from "../../src/session/task.ts";
import { endedAs, type ServiceSetup, withService } from "../support/task_service.ts";

/** Says that a name is out in the world, and leads it to this machine. */
function toLoopback(port: number): Outside {
  return {
    ...HOST_OUTSIDE,
    resolve: () => Promise.resolve(["203.0.113.7"]),
    connect: () => Deno.connect({ hostname: "127.0.0.1", port }),
  };
}

interface Call {
  readonly headers: Headers;
  readonly body: string;
}

/** A service whose webhooks reach a receiver that answers with the given statuses, the last one for ever. */
async function withReceiver(
  statuses: readonly number[],
  use: (setup: ServiceSetup, calls: readonly Call[]) => Promise<void>,
): Promise<void> {
  const calls: Call[] = [];
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    calls.push({ headers: request.headers, body: await request.text() });
    return new Response("answer", { status: statuses[calls.length - 1] ?? statuses.at(-1) ?? 200 });
  });
  const webhooks = {
    post: (request: OutsidePost) => postOutside(request, toLoopback(server.addr.port)),
    pausesMs: [1, 1],
  };
  const runner = (): Promise<TaskResult> => Promise.resolve(endedAs("done"));
  await withService({ runner, isDurable: true, webhooks }, (setup) => use(setup, calls));
}

async function settle({ service }: ServiceSetup, id: string): Promise<string | undefined> {
  const limit = AbortSignal.timeout(30_000);
  for (;;) {
    const state = service.store.webhooks.of(id)?.state;
    if (state === "delivered" || state === "failed") return state;
    limit.throwIfAborted();
    service.webhooks?.look();
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
}

Deno.test("a task's end is told with a signature that its token's secret proves", async () => {
  await withReceiver([202], async (setup, calls) => {
    const { id } = await setup.submit({ webhook: { url: "http://hooks.test/a?b=c" } });
    assert.equal(await settle(setup, id), "delivered");
    const [call] = calls;
    assert.equal(calls.length, 1);
    const { type, data } = JSON.parse(call?.body ?? "") as {
      type: string;
      data: { id: string; state: string };
    };
    assert.deepEqual([type, data.id, data.state], ["task.ended", id, "succeeded"]);
    assert.equal(call?.headers.get("host"), "hooks.test");
    const timestampS = Number(call?.headers.get("webhook-timestamp"));
    assert.ok(Math.abs(Date.now() / 1000 - timestampS) < 60);
    const facts = { id: call?.headers.get("webhook-id") ?? "", timestampS, body: call?.body ?? "" };
    const { secret } = await (await setup.request("GET", "/v1/webhook-secret")).json() as { secret: string };
    const signature = call?.headers.get("webhook-signature");
    assert.equal(signature, signWebhook(secret, facts));
    const other = setup.service.webhookSecret({ ...LOCAL_PRINCIPAL, tokenId: "other" });
    assert.notEqual(signature, signWebhook(other, facts));
  });
});

Deno.test("the signature is that of the standard's own example", () => {
  // From the reference implementations' tests
  const facts = { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestampS: 1614265330, body: '{"test": 2432232314}' };
  assert.equal(
    signWebhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", facts),
    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  );
});

Deno.test("a call that is not answered with success is made again, and given up in the end", async () => {
  const webhook = { url: "http://hooks.test/" };
  await withReceiver([500, 200], async (setup, calls) => {
    const { id } = await setup.submit({ webhook });
    assert.equal(await settle(setup, id), "delivered");
    assert.equal(calls.length, 2);
    assert.equal(calls[0]?.body, calls[1]?.body);
  });
  await withReceiver([302], async (setup, calls) => {
    const { id } = await setup.submit({ webhook });
    assert.equal(await settle(setup, id), "failed");
    assert.equal(calls.length, 3);
    const row = setup.service.store.webhooks.of(id);
    assert.deepEqual(row, { state: "failed", tries: 3, note: "answered 302" });
  });
});

Deno.test("a server that calls no webhooks refuses tasks that want one", async () => {
  await withService({ runner: () => Promise.resolve(endedAs("done")) }, async ({ request }) => {
    const body = { agent: "shell", prompt: "true", webhook: { url: "http://hooks.test/" } };
    assert.equal((await request("POST", "/v1/tasks", { body })).status, 400);
  });
});

Deno.test("a call to what is inside is not made", async () => {
  for (
    const url of ["http://127.0.0.1:1/", "http://[::1]/", "http://169.254.169.254/", "http://localhost/"]
  ) {
    await assert.rejects(
      () => postOutside({ url, headers: {}, body: "" }),
      /resolves to|does not resolve/,
      url,
    );
  }
});
