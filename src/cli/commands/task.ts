/**
 * `sandbox task submit|list|show|watch|result|cancel|rm`: tasks of a service.
 *
 * @module
 */

import { parseArgs } from "node:util";
import type { ApiClient, TaskView } from "../../api/client.ts";
import {
  fetchResults,
  forEachAtOnce,
  parseSubmissions,
  submitOnce,
  submitTask,
} from "../../local/remote_tasks.ts";
import { requireServer } from "../../local/remote_server.ts";
import { untilInterrupted } from "../interrupt.ts";
import { printable } from "../printable.ts";
import { parseCount } from "../quantities.ts";
import { renderEvent } from "../render_event.ts";
import { styleFor } from "../style.ts";
import { EXIT_CODES, exitCodeFor, renderSummary } from "../summary.ts";
import { parseTaskArguments, TASK_OPTIONS } from "../task_arguments.ts";
import { formatAge, renderTable } from "../table.ts";
import { UsageError } from "../usage_error.ts";

const JSON_FLAG = { json: { type: "boolean", default: false } } as const;
const MAX_SHOWN_PROMPT = 60;

function requireIds(positionals: readonly string[], usage: string): readonly string[] {
  if (positionals.length === 0) throw new UsageError(`Usage: ${usage}`);
  return positionals;
}

function requireOne(positionals: readonly string[], usage: string): string {
  const [id, ...rest] = requireIds(positionals, usage);
  if (id === undefined || rest.length > 0) throw new UsageError(`Usage: ${usage}`);
  return id;
}

async function submit(args: readonly string[]): Promise<number> {
  const options = {
    ...TASK_OPTIONS,
    ...JSON_FLAG,
    watch: { type: "boolean", default: false },
    "idempotency-key": { type: "string" },
    from: { type: "string" },
    parallel: { type: "string", default: "8" },
  } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const client = await requireServer();
  if (values.from !== undefined) {
    if (positionals.length > 0 || values.watch) throw new UsageError("--from takes all tasks from its file");
    return await submitFile(client, values.from, {
      ...values,
      atOnce: parseCount("--parallel", values.parallel),
    });
  }
  using interrupt = untilInterrupted(() => {});
  const task = await submitTask(client, {
    submission: parseTaskArguments(values, positionals),
    repo: values.repo,
    idempotencyKey: values["idempotency-key"],
    signal: interrupt.signal,
    onNotice: (message) => console.error(message),
  });
  if (values.watch) {
    console.error(`Task ${task.id}`);
    return await watchTask(client, task.id, values.json);
  }
  console.log(values.json ? JSON.stringify(task) : task.id);
  return EXIT_CODES.done;
}

async function submitFile(
  client: ApiClient,
  path: string,
  { atOnce, json }: { readonly atOnce: number; readonly json: boolean },
): Promise<number> {
  const text = path === "-" ? await new Response(Deno.stdin.readable).text() : await Deno.readTextFile(path);
  await forEachAtOnce(parseSubmissions(text), atOnce, async (submission) => {
    const task = await submitOnce(client, submission);
    console.log(json ? JSON.stringify(task) : task.id);
  });
  return EXIT_CODES.done;
}

async function list(args: readonly string[]): Promise<number> {
  const options = {
    ...JSON_FLAG,
    state: { type: "string" },
    agent: { type: "string" },
    label: { type: "string", multiple: true },
    limit: { type: "string", default: "50" },
  } as const;
  const { values } = parseArgs({ args: [...args], options });
  const client = await requireServer();
  const wanted = parseCount("--limit", values.limit);
  const tasks: TaskView[] = [];
  let cursor: string | null | undefined;
  while (cursor !== null && tasks.length < wanted) {
    const page = await client.tasks({
      state: values.state,
      agent: values.agent,
      labels: values.label,
      limit: Math.min(200, wanted - tasks.length),
      cursor,
    });
    tasks.push(...page.tasks);
    cursor = page.nextCursor;
  }
  if (values.json) {
    console.log(JSON.stringify(tasks, null, 2));
    return EXIT_CODES.done;
  }
  const now = new Date();
  const rows = tasks.map(({ id, state, request, createdAt }) => [
    id,
    state,
    request.agent,
    formatAge(new Date(createdAt), now),
    printable(request.prompt.split("\n")[0] ?? "").slice(0, MAX_SHOWN_PROMPT),
  ]);
  for (const line of renderTable(["TASK", "STATE", "AGENT", "AGE", "PROMPT"], rows)) console.log(line);
  return EXIT_CODES.done;
}

async function show(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: JSON_FLAG, allowPositionals: true });
  const task = await (await requireServer()).task(requireOne(positionals, "sandbox task show TASK [--json]"));
  if (values.json) {
    console.log(JSON.stringify(task, null, 2));
    return EXIT_CODES.done;
  }
  const labels = Object.entries(task.labels).map(([name, value]) => `${name}:${value}`).join(" ");
  const rows: [string, string | null][] = [
    ["State", task.state],
    ["Cause", task.cause],
    ["Agent", task.request.agent],
    ["Prompt", task.request.prompt],
    ["Labels", labels],
    ["Attempt", String(task.attempt)],
    ["Created", task.createdAt],
    ["Started", task.startedAt],
    ["Ended", task.endedAt],
  ];
  for (const [name, value] of rows) {
    if (value !== null && value !== "") console.log(name.padEnd(8), printable(value));
  }
  return EXIT_CODES.done;
}

async function watchTask(client: ApiClient, id: string, json: boolean): Promise<number> {
  const style = styleFor(Deno.stdout);
  // Whoever stops looking does not stop the task
  using interrupt = untilInterrupted(() => console.error(`Task ${id} goes on: sandbox task watch ${id}`));
  try {
    for await (const event of client.events(id, interrupt.signal)) {
      if (json) console.log(JSON.stringify(event));
      else for (const line of renderEvent(event, style)) console.log(line);
      if (event.type !== "result") continue;
      if (!json) {
        for (const line of renderSummary(event.result, { outFolder: "", style })) console.log(line);
      }
      return exitCodeFor(event.result.outcome);
    }
  } catch (error) {
    if (interrupt.signal.aborted) return EXIT_CODES.interrupted;
    throw error;
  }
  return EXIT_CODES.host;
}

async function watch(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: JSON_FLAG, allowPositionals: true });
  const client = await requireServer();
  return await watchTask(client, requireOne(positionals, "sandbox task watch TASK [--json]"), values.json);
}

async function result(args: readonly string[]): Promise<number> {
  const options = { out: { type: "string" }, bundle: { type: "string" }, ...JSON_FLAG } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const id = requireOne(positionals, "sandbox task result TASK [--out DIR] [--bundle FILE.tar] [--json]");
  const client = await requireServer();
  if (values.json) console.log(JSON.stringify(await client.result(id), null, 2));
  if (values.json && values.out === undefined && values.bundle === undefined) return EXIT_CODES.done;
  const folder = await fetchResults(client, id, values);
  if (folder !== "") console.error(`Results are in ${folder}/`);
  if (values.bundle !== undefined) console.error(`All of them are in ${values.bundle}`);
  return EXIT_CODES.done;
}

async function forEach(
  args: readonly string[],
  verb: string,
  act: (client: ApiClient, id: string) => Promise<void>,
): Promise<number> {
  const { positionals } = parseArgs({ args: [...args], options: {}, allowPositionals: true });
  const ids = requireIds(positionals, `sandbox task ${verb} TASK…`);
  const client = await requireServer();
  // All names are checked before the first is touched
  for (const id of ids) await client.task(id);
  for (const id of ids) await act(client, id);
  return EXIT_CODES.done;
}

const VERBS: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  submit,
  list,
  show,
  watch,
  result,
  cancel: (args) => forEach(args, "cancel", (client, id) => client.cancel(id)),
  rm: (args) => forEach(args, "rm", (client, id) => client.remove(id)),
};

/** Runs the command and gives its exit code. */
export async function task(args: readonly string[]): Promise<number> {
  const [verb = "", ...rest] = args;
  const act = Object.hasOwn(VERBS, verb) ? VERBS[verb] : undefined;
  if (act !== undefined) return await act(rest);
  throw new UsageError(`Usage: sandbox task ${Object.keys(VERBS).join("|")}`);
}
