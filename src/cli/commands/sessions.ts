/**
 * `sandbox ls|shell|exec|cp|logs|pause|resume|stop|rm|publish`: sessions, their own or those that a task runs in.
 *
 * @module
 */

import { parseArgs } from "node:util";
import type { ApiClient, SessionView } from "../../api/client.ts";
import { copyFromSession, copyToSession, parseSessionPath } from "../../local/session_files.ts";
import { openSessionHost, requireSessionHost } from "../../local/session_host.ts";
import { publishPort } from "../../local/publish.ts";
import { untilInterrupted } from "../interrupt.ts";
import { parsePublication } from "../quantities.ts";
import { parsePairs } from "../task_arguments.ts";
import { formatAge, renderTable } from "../table.ts";
import { attachStreams, attachTerminal, hasTerminal, terminalSize } from "../terminal.ts";
import { UsageError } from "../usage_error.ts";

const JSON_FLAG = { json: { type: "boolean", default: false } } as const;
const ENTER_OPTIONS = {
  user: { type: "string", default: "agent" },
  cwd: { type: "string", default: "/workspace" },
  env: { type: "string", multiple: true },
  tty: { type: "boolean", short: "t", default: false },
} as const;

function requireOne(positionals: readonly string[], usage: string): string {
  const [id, ...rest] = positionals;
  if (id === undefined || rest.length > 0) throw new UsageError(`Usage: ${usage}`);
  return id;
}

function parseUser(text: string): "agent" | "root" {
  if (text === "agent" || text === "root") return text;
  throw new UsageError(`--user must be agent or root: received "${text}"`);
}

/** `sandbox ls`. */
export async function ls(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: JSON_FLAG });
  await using host = await openSessionHost();
  const all: readonly SessionView[] = await host?.client.sessions() ?? [];
  if (values.json) {
    console.log(JSON.stringify(all, null, 2));
    return 0;
  }
  const now = new Date();
  const rows = all.map(({ id, state, agent, isKept, memoryMib, createdAt, expiresAt }) => [
    id,
    isKept ? state : "task",
    agent,
    `${memoryMib} MiB`,
    formatAge(new Date(createdAt), now),
    expiresAt === null ? "" : `in ${formatAge(now, new Date(expiresAt))}`,
  ]);
  const header = ["SESSION", "STATE", "AGENT", "MEMORY", "AGE", "ENDS"];
  for (const line of renderTable(header, rows)) console.log(line);
  return 0;
}

/** `sandbox shell`. */
export async function shell(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    options: ENTER_OPTIONS,
    allowPositionals: true,
  });
  const id = requireOne(positionals, "sandbox shell SESSION");
  return await enter(id, ["/bin/bash", "-l"], { ...values, tty: hasTerminal() });
}

/** `sandbox exec`. */
export async function exec(args: readonly string[]): Promise<number> {
  // What follows the session's name is the command's, options and all
  const end = args.indexOf("--");
  const own = end === -1 ? args : args.slice(0, end);
  const { values, positionals } = parseArgs({
    args: [...own],
    options: ENTER_OPTIONS,
    allowPositionals: true,
  });
  const argv = end === -1 ? [] : args.slice(end + 1);
  const id = requireOne(positionals, "sandbox exec SESSION -- CMD ARGUMENT…");
  if (argv.length === 0) throw new UsageError("A command is needed: sandbox exec SESSION -- CMD ARGUMENT…");
  if (values.tty && !hasTerminal()) throw new UsageError("--tty needs a terminal");
  return await enter(id, argv, values);
}

async function enter(
  id: string,
  argv: readonly string[],
  values: { readonly user: string; readonly cwd: string; readonly env?: string[]; readonly tty: boolean },
): Promise<number> {
  const request = {
    argv,
    user: parseUser(values.user),
    cwd: values.cwd,
    env: parsePairs("--env", values.env ?? [], "="),
  };
  await using host = await requireSessionHost();
  await host.client.session(id);
  if (values.tty) {
    return await attachTerminal(host.client.terminal(id, { ...request, terminal: terminalSize() }));
  }
  const child = host.client.exec(id, { ...request, stdin: true });
  using _ = untilInterrupted(() => child.signal(2));
  return await attachStreams(child, { stdin: true });
}

/** `sandbox cp`. */
export async function cp(args: readonly string[]): Promise<number> {
  const { positionals } = parseArgs({ args: [...args], options: {}, allowPositionals: true });
  const [from, to, ...rest] = positionals;
  if (from === undefined || to === undefined || rest.length > 0) {
    throw new UsageError("Usage: sandbox cp SESSION:PATH FILE, or sandbox cp FILE SESSION:PATH");
  }
  const [inFrom, inTo] = [parseSessionPath(from), parseSessionPath(to)];
  if ((inFrom === undefined) === (inTo === undefined)) {
    throw new UsageError("One of the two must be a path in a session: SESSION:PATH");
  }
  await using host = await requireSessionHost();
  if (inTo !== undefined) await copyToSession(host.client, from, inTo);
  else if (inFrom !== undefined) {
    const { refusedCount } = await copyFromSession(host.client, inFrom, to);
    if (refusedCount > 0) console.error(`sandbox: ${refusedCount} unsafe entries were left out`);
  }
  return 0;
}

/** `sandbox logs`. */
export async function logs(args: readonly string[]): Promise<number> {
  const options = { network: { type: "boolean", default: false } } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const id = requireOne(positionals, "sandbox logs SESSION [--network]");
  await using host = await requireSessionHost();
  const text = await host.client.sessionLog(id, values.network ? "network" : "console");
  await new Blob([text]).stream().pipeTo(Deno.stdout.writable, { preventClose: true });
  return 0;
}

async function forEach(
  args: readonly string[],
  verb: string,
  act: (client: ApiClient, id: string) => Promise<unknown>,
): Promise<number> {
  const { positionals } = parseArgs({ args: [...args], options: {}, allowPositionals: true });
  if (positionals.length === 0) throw new UsageError(`Usage: sandbox ${verb} SESSION…`);
  await using host = await requireSessionHost();
  const { client } = host;
  // All names are checked before the first is touched
  for (const id of positionals) await client.session(id);
  for (const id of positionals) await act(client, id);
  return 0;
}

/** `sandbox pause`. */
export async function pause(args: readonly string[]): Promise<number> {
  return await forEach(args, "pause", (client, id) => client.pauseSession(id));
}

/** `sandbox resume`. */
export async function resume(args: readonly string[]): Promise<number> {
  return await forEach(args, "resume", (client, id) => client.resumeSession(id));
}

/** `sandbox stop`. */
export async function stop(args: readonly string[]): Promise<number> {
  return await forEach(args, "stop", (client, id) => client.stopSession(id));
}

/** `sandbox rm`. */
export async function rm(args: readonly string[]): Promise<number> {
  return await forEach(args, "rm", (client, id) => client.removeSession(id));
}

/** `sandbox publish`. */
export async function publish(args: readonly string[]): Promise<number> {
  const { positionals } = parseArgs({ args: [...args], options: {}, allowPositionals: true });
  const [id, ...words] = positionals;
  if (id === undefined || words.length === 0) {
    throw new UsageError("Usage: sandbox publish SESSION HOST:GUEST…");
  }
  const wanted = words.map(parsePublication);
  await using host = await requireSessionHost();
  const { client } = host;
  await client.session(id);
  await using stack = new AsyncDisposableStack();
  const session = Promise.resolve({ client, id });
  for (const publication of wanted) {
    const { hostPort } = stack.use(publishPort(session, publication));
    console.log(`127.0.0.1:${hostPort} is port ${publication.guestPort} of session ${id}`);
  }
  const interrupted = Promise.withResolvers<void>();
  using _ = untilInterrupted(() => interrupted.resolve());
  await interrupted.promise;
  return 0;
}
