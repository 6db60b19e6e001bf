/**
 * What the API takes, checked, and what it answers.
 *
 * @module
 */

import { z } from "@hono/zod-openapi";
import type { TaskEvent, TaskRequest, TaskResult } from "../session/task.ts";
import { EGRESS_MODES } from "../session/task_policy.ts";
import type { TaskState } from "../store/task_state.ts";

const MINUTE_MS = 60_000;
/** A command and its environment travel to the guest in one frame of 64 KiB. */
const MAX_PROMPT_BYTES = 56 * 1024;

function fitsOneFrame(text: string): boolean {
  return new TextEncoder().encode(text).length <= MAX_PROMPT_BYTES;
}

/** Rules are read by the policy itself; here only their amount is bounded. */
const rules = z.array(z.string().min(1).max(300)).max(1000).readonly();
/** What a guest may reach. */
export const networkSchema = z.strictObject({
  mode: z.enum(EGRESS_MODES).default("proxy"),
  allow: rules.default([]),
  profiles: z.array(z.string().max(64)).max(16).readonly().default([]),
  /** what the project says: it only takes away */
  project: z.strictObject({
    source: z.string().min(1).max(100),
    mode: z.enum(EGRESS_MODES).optional(),
    allow: rules.optional(),
    deny: rules.optional(),
  }).optional(),
});

const usd = z.number().min(0).max(1_000_000);
const factor = z.number().min(1).max(100);
const pricesSchema = z.record(
  z.string().min(1).max(200),
  z.strictObject({
    input: usd,
    output: usd,
    cachedInput: usd.optional(),
    cacheWrite: usd.optional(),
    cacheWriteHour: usd.optional(),
    long: z.strictObject({ overTokens: z.int().min(0), inputFactor: factor, outputFactor: factor })
      .optional(),
  }),
).refine((table) => Object.keys(table).length <= 1000, "must not have over 1000 models");

/** Headers of requests to the model's API: a secret each. */
export const credentialsSchema = z.array(z.strictObject({
  name: z.string().regex(/^[a-z][a-z0-9-]{0,63}$/, "must be a header's name in lower case"),
  value: z.string().min(1).max(16 * 1024).regex(/^[\x20-\x7e]+$/, "must be printable ASCII"),
  isListed: z.boolean().optional(),
})).min(1).max(8).readonly();

const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, "must be letters, digits, dots, - and _");
/** Words of a user's for what is theirs. */
export const labelsSchema = z.record(name, z.string().max(200))
  .refine((labels) => Object.keys(labels).length <= 32, "must not be over 32");
/** Variables of commands. */
export const envSchema = z.record(
  z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, "must be a variable's name"),
  z.string().max(16 * 1024).regex(/^[^\0]*$/, "must not hold a NUL character"),
).refine(
  (env) => fitsOneFrame(Object.entries(env).flat().join("")),
  `must not be over ${MAX_PROMPT_BYTES} bytes in all`,
);

/** Files of a workspace: each path with its content as text, or as Base64. */
const filesSchema = z.record(
  z.string().min(1).max(1000),
  z.union([z.string(), z.strictObject({ base64: z.base64(), mode: z.enum(["644", "755"]).default("644") })]),
).refine((files) => Object.keys(files).length <= 2000, "must not be over 2000: upload an archive instead");

/** A branch of a repository that the server clones. */
const repoSchema = z.strictObject({
  url: z.url({ protocol: /^https$/ }).max(2000),
  branch: z.string().min(1).max(250).optional(),
});

/** What a task's workspace is cloned from. */
export type RepoSource = z.output<typeof repoSchema>;

/** Body of `POST /v1/tasks`. */
export const submissionSchema = z.strictObject({
  agent: z.string().min(1).max(64),
  /** what the agent is to do */
  prompt: z.string().default("")
    .refine((text) => !text.includes("\0"), "must not hold a NUL character")
    .refine(
      fitsOneFrame,
      `must not be over ${MAX_PROMPT_BYTES} bytes: put long texts into a file of the workspace`,
    ),
  /** in place of a prompt: the agent's own user interface, on a terminal that `/v1/sessions/{id}/exec` brings */
  interactive: z.boolean().optional(),
  model: z.string().min(1).max(200).optional(),
  memoryMib: z.int().min(128).max(64 * 1024).optional(),
  cpus: z.int().min(1).max(64).default(1),
  timeoutMs: z.int().min(1000).max(24 * 60 * MINUTE_MS).default(30 * MINUTE_MS),
  modelUrl: z.url({ protocol: /^https?$/ }).max(100_000).optional(),
  modelIdleTimeoutMs: z.int().min(1000).max(60 * MINUTE_MS).optional(),
  maxTokens: z.int().min(1).max(1_000_000_000).optional(),
  maxCostUsd: usd.positive().optional(),
  prices: pricesSchema.optional(),
  network: networkSchema.optional(),
  keep: z.boolean().default(false),
  /** upload that holds the workspace */
  uploadId: z.string().regex(/^[a-z0-9]{1,40}$/).optional(),
  /** key of the model's API: kept in memory only */
  // A header's value: anything else could smuggle in another header.
  apiKey: z.string().min(1).max(4096).regex(/^[\x21-\x7e]+$/, "must be printable ASCII without spaces")
    .optional(),
  /** headers for the model's API in place of a key: kept in memory only */
  modelHeaders: credentialsSchema.optional(),
  /** cancel and forget the task when nobody follows its events any more */
  attached: z.boolean().default(false),
  /** the workspace's files, in place of an upload */
  files: filesSchema.optional(),
  /** repository that the workspace is cloned from, in place of an upload */
  repo: repoSchema.optional(),
  /** variables for the agent; they are stored: no place for secrets */
  env: envSchema.optional(),
  labels: labelsSchema.default({}),
  /** among the tasks of one token the higher ones go first */
  priority: z.int().min(-100).max(100).default(0),
  /** how many times it is started anew when the server or its VM ended while it ran */
  retry: z.int().min(0).max(10).default(0),
  /** told when the task is over, by a signed POST */
  webhook: z.strictObject({ url: z.url({ protocol: /^https?$/ }).max(2000) }).optional(),
}).refine(
  ({ uploadId, files, repo }) => [uploadId, files, repo].filter((source) => source !== undefined).length <= 1,
  { path: ["uploadId"], message: "uploadId, files and repo exclude each other" },
).refine(({ prompt, interactive }) => (prompt === "") === (interactive === true), {
  path: ["prompt"],
  message: "must say what to do, unless the task is interactive",
}).openapi("Submission");

/** A checked submission. */
export type Submission = z.output<typeof submissionSchema>;
/** What a client sends. */
export type SubmissionInput = z.input<typeof submissionSchema>;

/** A task as the API shows it. */
export interface TaskView {
  readonly id: string;
  readonly state: TaskState;
  /** why it ended so (null: it is not over) */
  readonly cause: string | null;
  /** starts so far */
  readonly attempt: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly priority: number;
  readonly request: StoredRequest;
  readonly result: TaskResult | null;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

/** What is stored of a submission. */
export type StoredRequest = TaskRequest & { readonly repo?: RepoSource | undefined };

/** An event of a task as the API tells it. */
export type ServiceEvent =
  | TaskEvent
  /** the task's state is this from now on */
  | { readonly type: "state"; readonly state: TaskState; readonly cause?: string | undefined };

/** The part of a submission that is stored: everything but credentials, and what has a place of its own. */
export function toStoredRequest(submission: Submission): StoredRequest {
  const {
    apiKey: _apiKey,
    modelHeaders: _modelHeaders,
    uploadId: _uploadId,
    attached: _attached,
    files: _files,
    labels: _labels,
    priority: _priority,
    retry: _retry,
    webhook: _webhook,
    ...request
  } = submission;
  return request;
}
