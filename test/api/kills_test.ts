import assert from "node:assert/strict";
import { ApiClient, ApiError } from "../../src/api/client.ts";
import { TaskStore } from "../../src/store/task_store.ts";
import { isOver } from "../../src/store/task_state.ts";
import { Random } from "../support/random.ts";
import { TEST_TOKEN } from "../support/task_service.ts";

const KILLS = Number(Deno.env.get("PADDOCK_KILLS") ?? 10);
const SEED = Number(Deno.env.get("PADDOCK_SEED") ?? 20261123);
const TARGET = new URL("../support/queue_target.ts", import.meta.url).pathname;
/** Longest time from the start of a server to its end, in `ms`. */
const MAX_LIFE_MS = 250;

interface Server {
  readonly client: ApiClient;
  readonly kill: () => Promise<void>;
}

async function start(stateDir: string, runsPath: string): Promise<Server> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "--cached-only", "--no-check", "-A", TARGET, stateDir, runsPath],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value = "" } = await reader.read();
  reader.releaseLock();
  return {
    client: new ApiClient({ baseUrl: `http://127.0.0.1:${value.trim()}`, token: TEST_TOKEN }),
    kill: async () => {
      child.kill("SIGKILL");
      await child.stdout.cancel().catch(() => {});
      await child.status;
    },
  };
}

/** Submits tasks, one after the other, until the server is gone; gives those that it said it has. */
async function submitUntilGone(client: ApiClient, from: number): Promise<Map<number, string>> {
  const accepted = new Map<number, string>();
  for (let number = from;; number++) {
    try {
      const { id } = await client.submit(
        { agent: "shell", prompt: `${number}`, retry: number % 2 },
        `key-${number}`,
      );
      accepted.set(number, id);
    } catch (error) {
      if (error instanceof ApiError && error.status === 0) return accepted;
      throw error;
    }
  }
}

Deno.test(`${KILLS} kills of a server under load lose no task, run none twice, and leave no gap in events`, async () => {
  const stateDir = await Deno.makeTempDir();
  const runsPath = `${stateDir}/runs`;
  await Deno.writeTextFile(runsPath, "");
  const random = new Random(SEED);
  const accepted = new Map<number, string>();
  let next = 0;
  for (let kill = 0; kill < KILLS; kill++) {
    const server = await start(stateDir, runsPath);
    const submitting = submitUntilGone(server.client, next);
    await new Promise((resolve) => setTimeout(resolve, random.below(MAX_LIFE_MS)));
    await server.kill();
    for (const [number, id] of await submitting) {
      accepted.set(number, id);
      next = number + 1;
    }
    // The same submission once more, where the answer to it may have been lost
    const again = await start(stateDir, runsPath);
    const { id } = await again.client.submit(
      { agent: "shell", prompt: `${next}`, retry: next % 2 },
      `key-${next}`,
    );
    accepted.set(next, id);
    next += 1;
    await again.kill();
  }
  const last = await start(stateDir, runsPath);
  for (const id of accepted.values()) {
    for (let after = 0, isTold = false; !isTold;) {
      const page = await last.client.eventPage(id, after, 20);
      after = page.lastSeq;
      isTold = page.events.some(({ type }) => type === "result");
    }
  }
  await last.kill();

  const runs = (await Deno.readTextFile(runsPath)).trim().split("\n").map(Number);
  const counts = Map.groupBy(runs, (number) => number);
  using store = new TaskStore(`${stateDir}/paddock.sqlite`);
  const rows = store.tasks({ limit: 1_000_000 });
  const states = Object.groupBy(rows, ({ state }) => state);
  const summary = Object.entries(states).map(([state, of]) => `${of.length} ${state}`).join(", ");
  console.log(`${accepted.size} tasks, ${KILLS * 2} kills: ${summary}`);
  // One for each key, and those that were accepted are there
  assert.equal(rows.length, accepted.size);
  for (const [number, id] of accepted) {
    const row = store.task(id);
    assert.ok(row !== undefined && isOver(row.state), `${number}: ${row?.state}`);
    const retry = number % 2;
    const ran = counts.get(number)?.length ?? 0;
    assert.ok(ran <= 1 + retry, `${number} ran ${ran} times`);
    if (row.state === "succeeded") assert.ok(ran >= 1);
    else assert.equal(row.state, "interrupted");
    if (row.state === "interrupted") assert.equal(row.attempt, 1 + retry);
    const seqs = store.events.after(id, 0, 1000).map(({ seq }) => seq);
    assert.deepEqual(seqs, seqs.map((_, index) => index + 1));
  }
  assert.ok((states.succeeded?.length ?? 0) > 0);
  // Folders of tasks, and nothing of uploads, sessions or dead owners but the last one's
  const owners = Array.from(Deno.readDirSync(`${stateDir}/owners`));
  assert.ok(owners.length <= 1, owners.map(({ name }) => name).join(" "));
  await Deno.remove(stateDir, { recursive: true });
});
