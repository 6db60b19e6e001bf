/**
 * `sandbox run AGENT PROMPT`: runs an agent on a task in a fresh VM.
 *
 * @module
 */

import { parseArgs } from "node:util";
import type { ApiClient, TimedTaskEvent } from "../../api/client.ts";
import { ensureTools } from "../../local/install_tools.ts";
import { type LocalTaskOptions, runLocalTask } from "../../local/run_local_task.ts";
import { untilInterrupted } from "../interrupt.ts";
import { progressOnStderr } from "../progress_display.ts";
import { type Publication, type PublishedSession, publishPort } from "../../local/publish.ts";
import { parseCount, parseDurationMs, parsePublication, parseSizeMib, parseUsd } from "../quantities.ts";
import { printable } from "../printable.ts";
import { renderEvent } from "../render_event.ts";
import { styleFor } from "../style.ts";
import { EXIT_CODES, exitCodeFor, renderSummary } from "../summary.ts";
import { parseMode } from "../task_arguments.ts";
import { attachTerminal, hasTerminal, terminalSize } from "../terminal.ts";
import { UsageError } from "../usage_error.ts";

const DEMO_PROMPT = "Write a greeting to hello.txt and show it.";

const OPTIONS = {
  repo: { type: "string" },
  out: { type: "string" },
  bundle: { type: "string" },
  apply: { type: "boolean", default: false },
  branch: { type: "string" },
  yes: { type: "boolean", default: false },
  model: { type: "string" },
  memory: { type: "string" },
  cpus: { type: "string" },
  timeout: { type: "string" },
  "model-url": { type: "string" },
  "model-idle-timeout": { type: "string" },
  "max-tokens": { type: "string" },
  login: { type: "boolean", default: false },
  "max-cost": { type: "string" },
  prices: { type: "string" },
  network: { type: "string", default: "proxy" },
  allow: { type: "string", multiple: true },
  profile: { type: "string", multiple: true },
  "alpine-rootfs": { type: "string" },
  keep: { type: "boolean", default: false },
  publish: { type: "string", multiple: true },
  json: { type: "boolean", default: false },
  demo: { type: "boolean", default: false },
  install: { type: "boolean", default: false },
} as const;

function optional<T>(text: string | undefined, parse: (text: string) => T): T | undefined {
  return text === undefined ? undefined : parse(text);
}

function parseModelUrl(text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text.replace(/\/+$/, "");
  throw new UsageError(`--model-url must be an http or https URL: received "${text}"`);
}

/** What the command line asks for. */
export interface RunArguments
  extends Omit<LocalTaskOptions, "signal" | "onProgress" | "onEvent" | "onNotice"> {
  readonly json: boolean;
  readonly install: boolean;
  /** applies without asking */
  readonly yes: boolean;
  /** the guest's ports that are reachable here while it runs */
  readonly publications: readonly Publication[];
}

/** Reads the command line. */
export function parseRunArguments(args: readonly string[]): RunArguments {
  const { values, positionals } = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true });
  const [agent, prompt = values.demo ? DEMO_PROMPT : "", ...rest] = positionals;
  if (agent === undefined) {
    throw new UsageError('An agent and a prompt are needed: sandbox run codex "Fix the failing test"');
  }
  if (prompt.trim() === "" && (positionals.length > 1 || values.json || !hasTerminal())) {
    const example = `sandbox run ${agent} "Fix the failing test"`;
    throw new UsageError(
      `A prompt is needed: ${example}; without one the agent's own interface needs a terminal`,
    );
  }
  if (rest.length > 0) throw new UsageError(`Unexpected argument "${rest[0]}": put the prompt in quotes`);
  if (values.demo && values["model-url"] !== undefined) {
    throw new UsageError("--demo and --model-url exclude each other");
  }
  if (values.branch !== undefined && !values.apply) throw new UsageError("--branch needs --apply");
  if (values.apply && !values.yes && (values.json || !Deno.stdin.isTerminal())) {
    throw new UsageError("--apply asks before it applies: without a terminal it needs --yes");
  }
  if (values.demo && values.login) throw new UsageError("--demo and --login exclude each other");
  return {
    agent,
    prompt,
    repo: values.repo,
    out: values.out,
    bundle: values.bundle,
    apply: values.apply,
    branch: values.branch,
    yes: values.yes,
    model: values.model,
    memoryMib: optional(values.memory, (text) => parseSizeMib("--memory", text)),
    cpus: optional(values.cpus, (text) => parseCount("--cpus", text)),
    timeoutMs: optional(values.timeout, (text) => parseDurationMs("--timeout", text)),
    modelUrl: optional(values["model-url"], parseModelUrl),
    modelIdleTimeoutMs: optional(
      values["model-idle-timeout"],
      (text) => parseDurationMs("--model-idle-timeout", text),
    ),
    maxTokens: optional(values["max-tokens"], (text) => parseCount("--max-tokens", text)),
    maxCostUsd: optional(values["max-cost"], (text) => parseUsd("--max-cost", text)),
    login: values.login,
    pricesFile: values.prices,
    network: { mode: parseMode(values.network), allow: values.allow ?? [], profiles: values.profile ?? [] },
    alpineRootfs: values["alpine-rootfs"],
    keep: values.keep,
    publications: (values.publish ?? []).map(parsePublication),
    json: values.json,
    demo: values.demo,
    install: values.install,
  };
}

/** Runs the command and gives its exit code. */
export async function run(args: readonly string[]): Promise<number> {
  const { json, install, yes, publications, ...task } = parseRunArguments(args);
  const progress = progressOnStderr();
  const style = styleFor(Deno.stdout);
  // While the agent has the terminal, what would be printed waits
  let waiting: string[] | undefined;
  const print = (text: string): void => {
    if (waiting !== undefined) return void waiting.push(text);
    progress.clear();
    console.log(text);
  };
  const giveTerminal = async (client: ApiClient, sessionId: string): Promise<void> => {
    progress.clear();
    waiting = [];
    try {
      await attachTerminal(client.exec(sessionId, { agent: true, terminal: terminalSize() }));
    } finally {
      const lines = waiting;
      waiting = undefined;
      lines.forEach(print);
    }
  };
  const onEvent = (event: TimedTaskEvent): void => {
    if (event.type === "prepare") progress.show(event.progress);
    if (json) print(JSON.stringify(event));
    else for (const line of renderEvent(event, style)) print(line);
  };
  using interrupt = untilInterrupted(() => progress.line("Stopping; press Ctrl-C again to leave at once"));
  const { signal } = interrupt;
  try {
    await ensureTools({
      install,
      needsGit: task.repo !== undefined,
      confirm: (question) => Deno.stdin.isTerminal() && confirm(question),
      onLine: (line) => progress.line(`  ${line}`),
    });
    const session = Promise.withResolvers<PublishedSession>();
    await using ports = new AsyncDisposableStack();
    for (const publication of publications) {
      const { hostPort } = ports.use(publishPort(session.promise, publication));
      progress.line(`127.0.0.1:${hostPort} leads to port ${publication.guestPort} of the VM`);
    }
    const { result, outFolder, branch } = await runLocalTask({
      ...task,
      signal,
      onSession: (client, id) => session.resolve({ client, id }),
      onTerminal: giveTerminal,
      onEvent,
      onProgress: (event) => progress.show(event),
      onNotice: (message) => progress.line(message),
      confirmApply: (diffStat) => {
        for (const line of diffStat) progress.line(printable(line));
        return yes || confirm("Apply this to a new branch?");
      },
    });
    if (!json) { for (const line of renderSummary(result, { outFolder, style })) print(line); }
    else if (outFolder !== "") progress.line(`Results are in ${outFolder}/`);
    if (branch !== undefined) progress.line(`Applied to the branch ${branch}: git switch ${branch}`);
    else if (task.apply) progress.line("Nothing was applied");
    if (task.bundle !== undefined) progress.line(`All of them are in ${task.bundle}`);
    return exitCodeFor(result.outcome);
  } catch (error) {
    if (signal.aborted) return EXIT_CODES.interrupted;
    throw error;
  } finally {
    progress.clear();
  }
}
