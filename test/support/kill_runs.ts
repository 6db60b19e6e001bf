/**
 * Kills the command line with SIGKILL at moments of its runs that a seed decides, lets the next start clean up, and
 * looks at what is left. A program of its own: it runs where the VMs run, with a KVM that is whole.
 *
 *     deno run --allow-all test/support/kill_runs.ts COUNT SEED
 *
 * Prints a line for each kill, and ends with 1 when anything was left behind or a result was not whole.
 *
 * @module
 */

import { verifyNetworkJournal } from "../../src/network/network_journal.ts";
import { Random } from "./random.ts";
import { sandboxCommand, STATE_LEFTOVERS } from "./sandbox_cli.ts";

/** Steps of a run as its events tell them; the kill comes some time after one of them. */
const STAGES = [
  "spawn",
  "network",
  "vm_start",
  "boot",
  "upload",
  "first event",
  "agent",
  "result",
  "end",
] as const;
type Stage = typeof STAGES[number];
/** Longest time from a step to the kill, in `ms`. */
const MAX_DELAY_MS = 1500;
const RUN_LIMIT_MS = 180_000;

const [count = "10", seed = "1"] = Deno.args;
const random = new Random(Number(seed));
const folder = await Deno.makeTempDir({ prefix: "kill-runs-" });
const state = `${folder}/state`;
const temporary = `${folder}/tmp`;
await Deno.mkdir(temporary);
const env = { NO_COLOR: "1", PADDOCK_STATE: state, PADDOCK_HOST: "native", TMPDIR: temporary };

function stageOf(line: string): Stage | undefined {
  const event = JSON.parse(line) as { type: string; phase?: string };
  if (event.type === "agent") return "first event";
  if (event.type === "result") return "end";
  return STAGES.find((stage) => event.type === "phase" && stage === event.phase);
}

/** Starts a run, kills it some time after a step, and says whether it was still running. */
async function runAndKill(out: string, stage: Stage, delayMs: number): Promise<boolean> {
  const [program = "", ...args] = sandboxCommand("run", "codex", "--demo", "--json", "--out", out);
  const child = new Deno.Command(program, { args, env, stdin: "null", stdout: "piped", stderr: "null" })
    .spawn();
  const limit = setTimeout(() => child.kill("SIGKILL"), RUN_LIMIT_MS);
  let killed = false;
  const kill = (): void => {
    try {
      child.kill("SIGKILL");
      killed = true;
    } catch {
      // It has ended by itself
    }
  };
  const timers: ReturnType<typeof setTimeout>[] = [];
  const reached = (now: Stage | undefined): void => {
    if (now === stage && timers.length === 0) timers.push(setTimeout(kill, delayMs));
  };
  reached("spawn");
  let pending = "";
  const text = child.stdout.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>);
  for await (const piece of text) {
    const lines = (pending + piece).split("\n");
    pending = lines.pop() ?? "";
    for (const line of lines) reached(stageOf(line));
  }
  await child.status;
  for (const timer of [limit, ...timers]) clearTimeout(timer);
  return killed;
}

async function output(program: string, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(program, { args: [...args], env, stdin: "null" })
    .output();
  const text = new TextDecoder();
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${text.decode(stderr)}`);
  return text.decode(stdout);
}

/** What is left after the next start has looked. */
async function leftovers(): Promise<string> {
  const [program = "", ...args] = sandboxCommand("ls");
  await output(program, ...args);
  const more = `nft list tables | grep pdk; ip -o link | grep pdk; ls -A "$TMPDIR" "$STATE/owners"; true`;
  const script = `export PATH=$PATH:/usr/sbin:/sbin STATE="${state}"; ${STATE_LEFTOVERS}\n${more}`;
  const left = await output("sh", "-c", script);
  return left.split("\n").filter((line) => line !== "" && !line.endsWith(":")).join("; ");
}

/** What is wrong with the results in a folder; a run that was killed before they were complete has no result.json. */
async function resultFault(out: string): Promise<string> {
  let document: { outcome?: string; network?: { journal?: { sha256?: string } } };
  try {
    document = JSON.parse(await Deno.readTextFile(`${out}/result.json`)) as typeof document;
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? "" : `result.json: ${error}`;
  }
  try {
    const journal = verifyNetworkJournal(await Deno.readTextFile(`${out}/network.jsonl`));
    if (journal.sha256 !== document.network?.journal?.sha256) return "network.jsonl is not the result's";
    const patch = await Deno.readTextFile(`${out}/changes.patch`);
    if (!patch.includes("hello.txt")) return "changes.patch is not whole";
    await output("tar", "-tf", `${out}/workspace.tar`);
    return document.outcome === "done" ? "" : `outcome ${document.outcome}`;
  } catch (error) {
    return String(error);
  }
}

let faults = 0;
let finished = 0;
for (let number = 1; number <= Number(count); number++) {
  const stage = STAGES[random.below(STAGES.length)] ?? "spawn";
  const delayMs = random.below(MAX_DELAY_MS);
  const out = `${folder}/out`;
  const killed = await runAndKill(out, stage, delayMs);
  const left = await leftovers();
  const fault = await resultFault(out);
  const isWhole = await Deno.stat(`${out}/result.json`).then(() => true, () => false);
  if (isWhole) finished += 1;
  if (left !== "" || fault !== "") faults += 1;
  const what = killed ? "killed" : "ended first";
  console.log(
    `${number}: ${stage} + ${delayMs} ms, ${what}${isWhole ? ", whole result" : ""} ${left} ${fault}`.trim(),
  );
  await Deno.remove(out, { recursive: true }).catch(() => {/* it came to no results */});
}
console.log(`${count} kills, ${finished} whole results, ${faults} faults`);
await Deno.remove(folder, { recursive: true });
Deno.exit(faults === 0 ? 0 : 1);
