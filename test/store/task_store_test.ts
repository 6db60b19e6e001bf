import assert from "node:assert/strict";
import { TaskStore } from "../../src/store/task_store.ts";

const task = { id: "a", request: "{}", owner: "me", attached: false } as const;

Deno.test("TaskStore keeps a task's life", () => {
  using store = new TaskStore(":memory:");
  store.addTask(task);
  assert.equal(store.task("a")?.status, "running");
  store.endTask("a", '{"outcome":"done"}');
  store.endTask("a", '{"outcome":"second"}');
  assert.equal(store.task("a")?.result, '{"outcome":"done"}');
  store.removeTask("a");
  assert.equal(store.task("a"), undefined);
});

Deno.test("TaskStore numbers the events of each task from 1 and gives them in order", () => {
  using store = new TaskStore(":memory:");
  store.addTask(task);
  store.addTask({ ...task, id: "b" });
  assert.deepEqual([store.addEvent("a", "1"), store.addEvent("b", "x"), store.addEvent("a", "2")], [1, 1, 2]);
  assert.deepEqual(store.events("a", 0, 10).map((event) => event.body), ["1", "2"]);
  assert.deepEqual(store.events("a", 1, 10).map((event) => event.seq), [2]);
  assert.deepEqual(store.events("a", 0, 1).map((event) => event.seq), [1]);
  store.removeTask("a");
  assert.deepEqual(store.events("a", 0, 10), []);
});

Deno.test("TaskStore refuses events of a task that is not there", () => {
  using store = new TaskStore(":memory:");
  assert.throws(() => store.addEvent("nobody", "{}"));
});

Deno.test("TaskStore can be open twice", async () => {
  const folder = await Deno.makeTempDir();
  {
    using first = new TaskStore(`${folder}/db`);
    using second = new TaskStore(`${folder}/db`);
    first.addTask(task);
    second.addEvent("a", "{}");
    assert.equal(first.events("a", 0, 10).length, 1);
  }
  await Deno.remove(folder, { recursive: true });
});
