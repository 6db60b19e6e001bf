/**
 * `sandbox start`: a session of a service, without a task.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { LocalError } from "../../local/local_error.ts";
import { requireServer } from "../../local/remote_server.ts";
import { uploadWorkspace } from "../../local/remote_tasks.ts";
import { untilInterrupted } from "../interrupt.ts";
import { parseCount, parseLifetimeMs, parseSizeMib } from "../quantities.ts";
import { EXIT_CODES } from "../summary.ts";
import { given, parseNetwork, parsePairs } from "../task_arguments.ts";
import { UsageError } from "../usage_error.ts";

const OPTIONS = {
  repo: { type: "string" },
  memory: { type: "string" },
  cpus: { type: "string" },
  ttl: { type: "string" },
  network: { type: "string" },
  allow: { type: "string", multiple: true },
  profile: { type: "string", multiple: true },
  env: { type: "string", multiple: true },
  label: { type: "string", multiple: true },
  json: { type: "boolean", default: false },
} as const;

/** Runs the command and gives its exit code. */
export async function start(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  const [agent, ...rest] = positionals;
  if (rest.length > 0) throw new UsageError("Usage: sandbox start [AGENT] [options]");
  const submission = {
    agent,
    memoryMib: given(values.memory, (text) => parseSizeMib("--memory", text)),
    cpus: given(values.cpus, (text) => parseCount("--cpus", text)),
    ttlMs: given(values.ttl, (text) => parseLifetimeMs("--ttl", text)),
    env: parsePairs("--env", values.env ?? [], "="),
    labels: parsePairs("--label", values.label ?? [], ":"),
    network: parseNetwork(values),
  };
  const client = await requireServer();
  using interrupt = untilInterrupted(() => {});
  const { signal } = interrupt;
  const onNotice = (message: string): void => console.error(message);
  const workspace = await uploadWorkspace(client, {
    repo: values.repo,
    network: submission.network,
    signal,
    onNotice,
  });
  const { id } = await client.createSession({ ...submission, ...workspace });
  try {
    const view = await client.startedSession(id, signal);
    if (view.state !== "running") {
      throw new LocalError("host", `Session ${id} did not start: ${view.cause ?? view.state}`);
    }
    console.log(values.json ? JSON.stringify(view, null, 2) : id);
    return EXIT_CODES.done;
  } catch (error) {
    // Nobody would know of it
    await client.removeSession(id).catch(() => {});
    if (signal.aborted) return EXIT_CODES.interrupted;
    throw error;
  }
}
