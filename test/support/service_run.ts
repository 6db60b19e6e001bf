/**
 * Loads `sandbox serve` with tasks that run a shell command in a VM each, kills the server and VMs with SIGKILL at moments
 * that a seed decides, and checks what became of every task. A program of its own: it runs where the VMs run, with a KVM
 * that is whole.
 *
 *     deno run --allow-all test/support/service_run.ts TASKS KILLS SEED
 *
 * Ends with a line of what was found, and with 1 when anything was lost, run twice, told with a gap, or left behind.
 *
 * @module
 */

import { ApiClient, ApiError, type ServiceEvent, type TaskView } from "../../src/api/client.ts";
import { forEachAtOnce } from "../../src/local/remote_tasks.ts";
import { Random } from "./random.ts";
import { sandboxCommand, STATE_LEFTOVERS, VMM_PATTERN } from "./sandbox_cli.ts";

const PORT = 18_080;
const URL_TEXT = `http://127.0.0.1:${PORT}`;
const TOKEN_COUNT = 3;
const START_LIMIT_MS = 120_000;
/** Most events of all tasks between two kills: one task has about twelve. */
const MAX_EVENTS_BETWEEN = 60;
const MAX_DELAY_MS = 1500;
const MEASURE_EVERY_MS = 500;
const FOLLOWED_AT_ONCE = 16;

const [taskCount = 12, killCount = 3, seed = 1] = Deno.args.map(Number);
const random = new Random(seed);
const folder = await Deno.makeTempDir({ prefix: "service-run-" });
const state = `${folder}/state`;
const temporary = `${folder}/tmp`;
await Deno.mkdir(temporary);
const env = { NO_COLOR: "1", PADDOCK_STATE: state, PADDOCK_HOST: "native", TMPDIR: temporary };
const faults: string[] = [];
const startMs = performance.now();

function say(text: string): void {
  console.log(`${Math.round((performance.now() - startMs) / 1000)} s: ${text}`);
}

async function output(words: readonly string[]): Promise<string> {
  const [program = "", ...args] = words;
  const { code, stdout, stderr } = await new Deno.Command(program, { args, env, stdin: "null" }).output();
  const text = new TextDecoder();
  if (code !== 0) throw new Error(`${words.join(" ")} ended with ${code}: ${text.decode(stderr)}`);
  return text.decode(stdout);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

/** Starts the server, and comes back when it takes tasks. */
async function startServer(): Promise<Deno.ChildProcess> {
  const serve = ["serve", "--listen", `127.0.0.1:${PORT}`, "--max-vms", "4", "--log-format", "json"];
  const log = `exec "$@" 2>> ${folder}/serve.log`;
  const child = new Deno.Command("sh", {
    args: ["-c", log, "serve", ...sandboxCommand(...serve)],
    env,
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  serverPid = child.pid;
  for (const limit = performance.now() + START_LIMIT_MS; performance.now() < limit;) {
    const answer = await fetch(`${URL_TEXT}/readyz`).then((response) => response.text(), () => "");
    if (answer.includes("ready")) return child;
    await pause(200);
  }
  throw new Error(`Server does not start: ${(await Deno.readTextFile(`${folder}/serve.log`)).slice(-2000)}`);
}

/** Asks until there is an answer: the server may be dead at any moment. */
async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 0)) throw error;
      await pause(200);
    }
  }
}

const askedMs: number[] = [];
const residentMib: number[] = [];

/** Asks for some task again and again, as many watchers do, and looks at the server's memory now and then. */
async function measure(all: readonly Submitted[]): Promise<void> {
  while (!isOver) {
    const { client, id } = all[random.below(all.length)] as Submitted;
    const start = performance.now();
    // A server that was killed meanwhile says nothing of the time that an answer takes
    const isAnswered = await client.task(id).then(() => true, () => false);
    if (isAnswered) askedMs.push(performance.now() - start);
    const status = await Deno.readTextFile(`/proc/${serverPid}/status`).catch(() => "");
    const [, kib] = /VmRSS:\s+(\d+)/.exec(status) ?? [];
    if (kib !== undefined) residentMib.push(Number(kib) / 1024);
    await pause(MEASURE_EVERY_MS);
  }
}

/** The middle of the memory in the first and the last fifth of the time, and its most. */
function memoryText(): string {
  const fifth = Math.ceil(residentMib.length / 5);
  const middle = (of: readonly number[]): string =>
    (of.toSorted((a, b) => a - b)[of.length >> 1] ?? 0).toFixed(0);
  const most = Math.max(...residentMib).toFixed(0);
  return `server RSS ${middle(residentMib.slice(0, fifth))} MiB first, ${
    middle(residentMib.slice(-fifth))
  } last, ${most} most`;
}

function latencyText(): string {
  const sorted = askedMs.toSorted((a, b) => a - b);
  const at = (part: number): string => (sorted[Math.floor(part * (sorted.length - 1))] ?? 0).toFixed(0);
  return `GET of a task p50 ${at(0.5)} ms, p99 ${at(0.99)} ms of ${sorted.length}`;
}

interface Submitted {
  readonly client: ApiClient;
  readonly id: string;
  readonly number: number;
  readonly retry: number;
}

async function submitAll(clients: readonly ApiClient[]): Promise<Submitted[]> {
  const all: Submitted[] = [];
  for (let number = 0; number < taskCount; number++) {
    const client = clients[number % clients.length];
    if (client === undefined) break;
    const retry = number % 4;
    const prompt = `echo task ${number} > out.txt; sleep ${random.below(3)}; echo done ${number}`;
    const body = { agent: "shell", prompt, retry, labels: { number: String(number) } };
    // The same key: whatever the server was doing when it was killed, it is one task
    const { id } = await untilAnswered(() => client.submit(body, `number-${seed}-${number}`));
    all.push({ client, id, number, retry });
  }
  return all;
}

/** Follows a task to its end through all restarts; events must come once each, in order, without a gap. */
async function follow({ client, id }: Submitted): Promise<readonly ServiceEvent[]> {
  const events: ServiceEvent[] = [];
  for (let after = 0;;) {
    const page = await untilAnswered(() => client.eventPage(id, after, 20));
    eventsSeen += page.events.length;
    for (const { seq, ...event } of page.events) {
      if (seq !== after + 1) faults.push(`${id}: event ${seq} after ${after}`);
      after = seq;
      events.push(event as ServiceEvent);
    }
    if (events.at(-1)?.type === "result") return events;
  }
}

async function killServer(server: Deno.ChildProcess): Promise<Deno.ChildProcess> {
  server.kill("SIGKILL");
  await server.status;
  await pause(random.below(500));
  return await startServer();
}

async function killSomeVm(): Promise<void> {
  const pids = (await output(["sh", "-c", `pgrep -f '${VMM_PATTERN}' || true`])).split("\n").filter((pid) =>
    pid !== ""
  );
  const pid = pids[random.below(Math.max(1, pids.length))];
  if (pid !== undefined) await output(["sh", "-c", `kill -9 ${pid} 2>/dev/null || true`]);
}

/** Waits for a number of events, whatever time they take on this machine, and then a little more. */
async function someProgress(): Promise<void> {
  const wanted = eventsSeen + 1 + random.below(MAX_EVENTS_BETWEEN);
  while (eventsSeen < wanted && !isOver) await pause(20);
  await pause(random.below(MAX_DELAY_MS));
}

/** Kills, spread over what the tasks do, until there is nothing to kill any more. */
async function killAll(first: Deno.ChildProcess): Promise<Deno.ChildProcess> {
  let server = first;
  for (let number = 1; number <= killCount; number++) {
    await someProgress();
    if (isOver) break;
    const isServer = random.below(3) !== 0;
    if (isServer) server = await killServer(server);
    else await killSomeVm();
    say(`kill ${number} of ${killCount}: ${isServer ? "server" : "a VM"}`);
    kills += 1;
  }
  return server;
}

function check(task: Submitted, view: TaskView, events: readonly ServiceEvent[]): void {
  const states = events.flatMap((event) => event.type === "state" ? [event.state] : []);
  const starts = states.filter((name) => name === "preparing").length;
  const wrong = (what: string): void => void faults.push(`task ${task.number}: ${what}: ${states.join(" ")}`);
  if (events.filter(({ type }) => type === "result").length !== 1) wrong("not one result");
  if (states.at(-1) !== view.state) wrong(`state is ${view.state}`);
  if (starts > task.retry + 1) wrong("was run more often than it may be");
  const mayEnd = view.state === "succeeded" || (kills > 0 && /interrupted|failed/.test(view.state));
  if (!mayEnd) wrong(`ended as ${view.state}: ${view.cause}`);
  if (view.state !== "succeeded" && starts <= task.retry && starts > 0) wrong("had a try left");
  if (view.state === "succeeded" && view.result?.finalMessage !== `done ${task.number}`) {
    wrong("said something else");
  }
}

/** The order in which tasks had their first turn: among those that wait no token may be passed over twice. */
function checkOrder(all: readonly Submitted[], views: readonly TaskView[]): void {
  const byStart = all.map((task, index) => ({
    token: task.number % TOKEN_COUNT,
    at: views[index]?.startedAt ?? "",
  }))
    .toSorted((a, b) => a.at < b.at ? -1 : 1);
  for (let at = 0; at + TOKEN_COUNT <= byStart.length - TOKEN_COUNT * 2; at += TOKEN_COUNT) {
    const turn = new Set(byStart.slice(at, at + TOKEN_COUNT + 2).map(({ token }) => token));
    if (turn.size < TOKEN_COUNT) faults.push(`only tokens ${[...turn].join(" ")} had a turn around ${at}`);
  }
}

async function leftovers(): Promise<string> {
  const more =
    `nft list tables | grep pdk; ip -o link | grep pdk; ls -A "$TMPDIR" "$STATE/uploads" 2>/dev/null; true`;
  const script = `export PATH=$PATH:/usr/sbin:/sbin STATE="${state}"; ${STATE_LEFTOVERS}\n${more}`;
  const left = await output(["sh", "-c", script]);
  return left.split("\n").filter((line) => line !== "" && !line.endsWith(":")).join("; ");
}

let kills = 0;
let eventsSeen = 0;
let isOver = false;
let serverPid = 0;
let server = await startServer();
say("server is up");
const clients = await Promise.all(Array.from({ length: TOKEN_COUNT }, async (_, number) => {
  const made = await output(sandboxCommand("token", "create", `load-${number}`, "--json"));
  return new ApiClient({ baseUrl: URL_TEXT, token: (JSON.parse(made) as { token: string }).token });
}));
const killing = killAll(server);
const all = await submitAll(clients);
say(`${all.length} tasks submitted`);
const measuring = measure(all);
let ended = 0;
const told: (readonly ServiceEvent[])[] = [];
// In the order of their turns, a few at once: a thousand that wait at once would be more work than the tasks are
await forEachAtOnce([...all.entries()], FOLLOWED_AT_ONCE, async ([place, task]) => {
  told[place] = await follow(task);
  ended += 1;
  if (ended % 10 === 0 || ended === all.length) say(`${ended} of ${all.length} tasks are over`);
  // So that a run that is cut short has said something
  if (ended % 100 === 0) say(`${latencyText()}; ${memoryText()}`);
});
isOver = true;
server = await killing;
await measuring;
const views: TaskView[] = [];
// One by one: an address has only so many connections
for (const { client, id } of all) views.push(await client.task(id));
all.forEach((task, index) => check(task, views[index] as TaskView, told[index] ?? []));
if (killCount === 0) checkOrder(all, views);
for (const { client, id } of all) await client.remove(id);
const counts = Object.entries(Object.groupBy(views, ({ state }) => state)).map(([name, of]) =>
  `${of.length} ${name}`
);
const elapsedS = Math.round((performance.now() - startMs) / 1000);
server.kill("SIGTERM");
const { code } = await server.status;
if (code !== 0) faults.push(`server ended with ${code}`);
const left = await leftovers();
if (left !== "") faults.push(`left: ${left}`);
for (const fault of faults.slice(0, 20)) console.log(`fault: ${fault}`);
if (faults.length > 0) console.log((await Deno.readTextFile(`${folder}/serve.log`)).slice(-3000));
console.log(`${latencyText()}; ${memoryText()}`);
console.log(
  `${all.length} tasks, ${kills} kills, ${elapsedS} s: ${counts.join(", ")}; ${faults.length} faults`,
);
await Deno.remove(folder, { recursive: true });
Deno.exit(faults.length === 0 ? 0 : 1);
