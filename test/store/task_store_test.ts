import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { type TaskState } from "../../src/store/task_state.ts";
import { type NewTask, TaskStore } from "../../src/store/task_store.ts";

function task(id: string, change: Partial<NewTask> = {}): NewTask {
  return {
    id,
    request: '{"agent":"codex"}',
    owner: "me",
    tokenId: "t",
    attached: false,
    priority: 0,
    labels: {},
    memoryMib: 512,
    retry: 0,
    hasOwnKey: false,
    ...change,
  };
}

function become(store: TaskStore, id: string, state: TaskState): boolean {
  return store.change({ id, state, events: [`{"type":"state","state":"${state}"}`] });
}

Deno.test("TaskStore keeps a task's life, and its first end", () => {
  using store = new TaskStore(":memory:");
  assert.ok(store.addTask(task("a"), ["{}"]));
  assert.equal(store.task("a")?.state, "queued");
  assert.ok(become(store, "a", "preparing"));
  assert.ok(become(store, "a", "running"));
  assert.ok(store.change({ id: "a", state: "succeeded", cause: "c", result: "1", events: ["{}"] }));
  assert.ok(!store.change({ id: "a", state: "failed", cause: "d", result: "2", events: ["{}"] }));
  const { state, cause, result, attempt } = store.task("a") ?? {};
  assert.deepEqual([state, cause, result, attempt], ["succeeded", "c", "1", 1]);
  assert.equal(store.events.after("a", 0, 10).length, 4);
  store.removeTask("a");
  assert.equal(store.task("a"), undefined);
});

Deno.test("a state changes only as the table says, and a refused change writes no event", () => {
  using store = new TaskStore(":memory:");
  store.addTask(task("a"), []);
  for (const state of ["running", "succeeded", "failed", "timed_out", "queued"] as const) {
    assert.ok(!become(store, "a", state), state);
  }
  assert.ok(become(store, "a", "cancelled"));
  for (const state of ["queued", "preparing", "running", "succeeded", "interrupted"] as const) {
    assert.ok(!become(store, "a", state), state);
  }
  assert.equal(store.events.after("a", 0, 10).length, 1);
  assert.ok(!become(store, "nobody", "preparing"));
});

Deno.test("of several changes all are written or none", () => {
  using store = new TaskStore(":memory:");
  store.addTask(task("a"), []);
  become(store, "a", "preparing");
  assert.throws(() =>
    store.change({ id: "a", state: "interrupted", events: ["{}"] }, {
      id: "a",
      state: "running",
      events: ["{}"],
    })
  );
  assert.equal(store.task("a")?.state, "preparing");
  assert.equal(store.events.after("a", 0, 10).length, 1);
});

Deno.test("TaskStore numbers the events of each task from 1 and gives them in order", () => {
  using store = new TaskStore(":memory:");
  store.addTask(task("a"), []);
  store.addTask(task("b"), []);
  const { events } = store;
  assert.deepEqual([events.add("a", "1"), events.add("b", "x"), events.add("a", "2")], [1, 1, 2]);
  assert.deepEqual(events.after("a", 0, 10).map((event) => event.body), ["1", "2"]);
  assert.deepEqual(events.after("a", 1, 10).map((event) => event.seq), [2]);
  assert.deepEqual(events.after("a", 0, 1).map((event) => event.seq), [1]);
  store.removeTask("a");
  assert.deepEqual(events.after("a", 0, 10), []);
  assert.throws(() => events.add("nobody", "{}"));
});

Deno.test("TaskStore can be open twice", async () => {
  const folder = await Deno.makeTempDir();
  {
    using first = new TaskStore(`${folder}/db`);
    using second = new TaskStore(`${folder}/db`);
    first.addTask(task("a"), []);
    second.events.add("a", "{}");
    assert.equal(first.events.after("a", 0, 10).length, 1);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("tokens take turns; within one the highest priority goes first, then the oldest", () => {
  using store = new TaskStore(":memory:");
  for (const id of ["a1", "a2", "a3"]) store.addTask(task(id, { tokenId: "a" }), []);
  store.addTask(task("a4", { tokenId: "a", priority: 5 }), []);
  for (const id of ["b1", "b2"]) store.addTask(task(id, { tokenId: "b" }), []);
  store.addTask(task("c1", { tokenId: "c", owner: "somebody else" }), []);
  const order: string[] = [];
  for (let next = store.next("me"); next !== undefined; next = store.next("me")) {
    order.push(next.id);
    store.tookTurn(next.tokenId);
    become(store, next.id, "preparing");
    store.change({ id: next.id, state: "succeeded", result: "{}", events: [] });
  }
  assert.deepEqual(order, ["a4", "b1", "a1", "b2", "a2", "a3"]);
});

Deno.test("a token whose tasks run waits for those that have none", () => {
  using store = new TaskStore(":memory:");
  store.addTask(task("a1", { tokenId: "a" }), []);
  store.addTask(task("a2", { tokenId: "a" }), []);
  store.addTask(task("b1", { tokenId: "b" }), []);
  store.addTask(task("b2", { tokenId: "b" }), []);
  // b had its turn last, but only a has something that runs
  become(store, "a1", "preparing");
  store.tookTurn("a");
  store.tookTurn("b");
  assert.equal(store.next("me")?.id, "b1");
});

Deno.test("lists are filtered and paged", () => {
  using store = new TaskStore(":memory:");
  for (let n = 1; n <= 5; n++) {
    const labels = { team: n % 2 === 0 ? "even" : "odd", "a.b-c": `${n}` };
    store.addTask(task(`t${n}`, { tokenId: n < 5 ? "a" : "b", labels }), []);
  }
  become(store, "t1", "cancelled");
  const ids = (filter: Partial<Parameters<TaskStore["tasks"]>[0]>): string[] =>
    store.tasks({ limit: 10, ...filter }).map(({ id }) => id);
  assert.deepEqual(ids({}), ["t5", "t4", "t3", "t2", "t1"]);
  assert.deepEqual(ids({ tokenId: "b" }), ["t5"]);
  assert.deepEqual(ids({ states: ["cancelled"] }), ["t1"]);
  assert.deepEqual(ids({ labels: { team: "even" } }), ["t4", "t2"]);
  assert.deepEqual(ids({ labels: { team: "even", "a.b-c": "2" } }), ["t2"]);
  assert.deepEqual(ids({ agent: "shell" }), []);
  const position = store.task("t4")?.position ?? 0;
  assert.deepEqual(ids({ beforePosition: position, limit: 2 }), ["t3", "t2"]);
});

Deno.test("an upload belongs to one task", () => {
  using store = new TaskStore(":memory:");
  store.uploads.add({ id: "u", owner: "me", tokenId: "t" });
  assert.ok(store.addTask(task("a", { uploadId: "u" }), []));
  assert.ok(!store.addTask(task("b", { uploadId: "u" }), ["{}"]));
  assert.equal(store.task("b"), undefined);
  assert.equal(store.uploads.ofTask("a")?.id, "u");
});

Deno.test("a key makes one task", () => {
  using store = new TaskStore(":memory:");
  store.addTask(task("a", { idempotencyKey: "k" }), []);
  assert.throws(() => store.addTask(task("b", { idempotencyKey: "k" }), []));
  store.addTask(task("c", { idempotencyKey: "k", tokenId: "other" }), []);
  assert.equal(store.taskByKey("t", "k")?.id, "a");
});

Deno.test("a database of the first version keeps its tasks", async () => {
  const folder = await Deno.makeTempDir();
  const old = new DatabaseSync(`${folder}/db`);
  old.exec(`
    CREATE TABLE tasks (id TEXT PRIMARY KEY, status TEXT NOT NULL, request TEXT NOT NULL, result TEXT,
      owner TEXT NOT NULL, attached INTEGER NOT NULL, created_at TEXT NOT NULL, ended_at TEXT) STRICT;
    CREATE TABLE events (task_id TEXT NOT NULL REFERENCES tasks(id) ON DELETE CASCADE, seq INTEGER NOT NULL,
      at TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (task_id, seq)) STRICT, WITHOUT ROWID;
    CREATE TABLE uploads (id TEXT PRIMARY KEY, owner TEXT NOT NULL, created_at TEXT NOT NULL) STRICT;
    INSERT INTO tasks VALUES ('a', 'ended', '{}', '{"outcome":"timeout"}', 'o', 0, 'x', 'y'),
      ('b', 'running', '{}', NULL, 'o', 0, 'x', NULL), ('c', 'ended', '{}', '{"outcome":"done"}', 'o', 0, 'x', 'y');
    INSERT INTO events VALUES ('a', 1, 'x', '{}');`);
  old.close();
  {
    using store = new TaskStore(`${folder}/db`);
    const states = store.tasks({ limit: 9 }).map(({ id, state }) => [id, state]);
    assert.deepEqual(states, [["c", "succeeded"], ["b", "running"], ["a", "timed_out"]]);
    assert.equal(store.events.after("a", 0, 9).length, 1);
    assert.ok(store.addTask(task("d"), []));
  }
  await Deno.remove(folder, { recursive: true });
});
