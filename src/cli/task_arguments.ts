/**
 * A task as the command line describes it to a service.
 *
 * @module
 */

import type { SubmissionInput } from "../api/client.ts";
import { EGRESS_MODES } from "../local/project_egress.ts";
import { parseCount, parseDurationMs, parseSizeMib, parseUsd } from "./quantities.ts";
import { UsageError } from "./usage_error.ts";

/** Its options. */
export const TASK_OPTIONS = {
  repo: { type: "string" },
  model: { type: "string" },
  memory: { type: "string" },
  cpus: { type: "string" },
  timeout: { type: "string" },
  "model-url": { type: "string" },
  "max-tokens": { type: "string" },
  "max-cost": { type: "string" },
  network: { type: "string" },
  allow: { type: "string", multiple: true },
  profile: { type: "string", multiple: true },
  keep: { type: "boolean" },
  env: { type: "string", multiple: true },
  label: { type: "string", multiple: true },
  priority: { type: "string" },
  retry: { type: "string" },
  webhook: { type: "string" },
} as const;

type TaskValues = {
  readonly [Name in keyof typeof TASK_OPTIONS]?: (typeof TASK_OPTIONS)[Name] extends { multiple: true }
    ? string[]
    : (typeof TASK_OPTIONS)[Name]["type"] extends "boolean" ? boolean
    : string;
};

/** `NAME=VALUE` words. */
export function parsePairs(
  flag: string,
  words: readonly string[],
  separator: string,
): Record<string, string> {
  return Object.fromEntries(words.map((word) => {
    const at = word.indexOf(separator);
    if (at < 1) throw new UsageError(`${flag} must be NAME${separator}VALUE: received "${word}"`);
    return [word.slice(0, at), word.slice(at + 1)];
  }));
}

function parseInteger(flag: string, text: string): number {
  if (/^-?[0-9]{1,6}$/.test(text)) return Number(text);
  throw new UsageError(`${flag} must be a whole number: received "${text}"`);
}

/** How far an agent may reach. @throws {UsageError} */
export function parseMode(text: string): typeof EGRESS_MODES[number] {
  const mode = EGRESS_MODES.find((known) => known === text);
  if (mode !== undefined) return mode;
  throw new UsageError(`--network must be ${EGRESS_MODES.join(" or ")}: received "${text}"`);
}

/** The value of an option that was given. */
export function given<T>(text: string | undefined, parse: (text: string) => T): T | undefined {
  return text === undefined ? undefined : parse(text);
}

/** What a guest may reach. @throws {UsageError} */
export function parseNetwork(
  { network, allow, profile }: Pick<TaskValues, "network" | "allow" | "profile">,
): SubmissionInput["network"] {
  return { mode: given(network, parseMode), allow: allow ?? [], profiles: profile ?? [] };
}

/** The task. @throws {UsageError} */
export function parseTaskArguments(values: TaskValues, positionals: readonly string[]): SubmissionInput {
  const [agent, prompt = "", ...rest] = positionals;
  if (agent === undefined || prompt.trim() === "") {
    throw new UsageError(
      'An agent and a prompt are needed: sandbox task submit codex "Fix the failing test"',
    );
  }
  if (rest.length > 0) throw new UsageError(`Unexpected argument "${rest[0]}": put the prompt in quotes`);
  const webhook = values.webhook;
  return {
    agent,
    prompt,
    model: values.model,
    memoryMib: given(values.memory, (text) => parseSizeMib("--memory", text)),
    cpus: given(values.cpus, (text) => parseCount("--cpus", text)),
    timeoutMs: given(values.timeout, (text) => parseDurationMs("--timeout", text)),
    modelUrl: values["model-url"],
    maxTokens: given(values["max-tokens"], (text) => parseCount("--max-tokens", text)),
    maxCostUsd: given(values["max-cost"], (text) => parseUsd("--max-cost", text)),
    network: parseNetwork(values),
    keep: values.keep ?? false,
    env: parsePairs("--env", values.env ?? [], "="),
    labels: parsePairs("--label", values.label ?? [], ":"),
    priority: given(values.priority, (text) => parseInteger("--priority", text)),
    retry: given(values.retry, (text) => parseInteger("--retry", text)),
    webhook: webhook === undefined ? undefined : { url: webhook },
  };
}
