import assert from "node:assert/strict";
import { startHeartbeat } from "../../src/session/heartbeat.ts";

const LIMITS = { intervalMs: 5, silenceMs: 60 };

Deno.test("a guest that answers is asked again and again, and left alone", async () => {
  let asked = 0;
  const told: string[] = [];
  const enough = Promise.withResolvers<void>();
  const heartbeat = startHeartbeat(
    () => {
      if (++asked === 5) enough.resolve();
      return Promise.resolve();
    },
    (message) => told.push(message),
    LIMITS,
  );
  await enough.promise;
  heartbeat[Symbol.dispose]();
  assert.deepEqual(told, []);
});

Deno.test("a guest that stops answering is reported once", async () => {
  let asked = 0;
  const told: string[] = [];
  const silent = Promise.withResolvers<void>();
  using _ = startHeartbeat(
    () => ++asked < 3 ? Promise.resolve() : new Promise(() => {}),
    (message) => {
      told.push(message);
      silent.resolve();
    },
    LIMITS,
  );
  await silent.promise;
  await new Promise((resolve) => setTimeout(resolve, 3 * LIMITS.silenceMs));
  assert.deepEqual(told, ["Guest did not answer for 0.06 s"]);
  assert.equal(asked, 3);
});

Deno.test("a control channel that is refused is a guest that does not answer", async () => {
  const told = Promise.withResolvers<string>();
  using _ = startHeartbeat(
    () => Promise.reject(new Error("connection reset")),
    told.resolve,
    LIMITS,
  );
  assert.equal(await told.promise, "Guest's init does not answer: connection reset");
});

Deno.test("a heartbeat that was disposed says nothing more, an open question included", async () => {
  const told: string[] = [];
  const asked = Promise.withResolvers<void>();
  const heartbeat = startHeartbeat(
    () => {
      asked.resolve();
      return new Promise((_, reject) => setTimeout(() => reject(new Error("late")), 20));
    },
    (message) => told.push(message),
    LIMITS,
  );
  await asked.promise;
  heartbeat[Symbol.dispose]();
  await new Promise((resolve) => setTimeout(resolve, 2 * LIMITS.silenceMs));
  assert.deepEqual(told, []);
});
