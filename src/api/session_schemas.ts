/**
 * What the API takes and answers about sessions.
 *
 * @module
 */

import { MAX_LISTED_ENTRIES } from "../session/guest_files.ts";
import { z } from "./openapi.ts";
import { envSchema, labelsSchema, networkSchema } from "./schemas.ts";

const MINUTE_MS = 60_000;
/** Longest life that can be asked for at once. */
const MAX_TTL_MS = 24 * 60 * MINUTE_MS;
/** A command and its environment travel to the guest in one frame of 64 KiB, with the session's own variables. */
const MAX_COMMAND_BYTES = 40 * 1024;
const MAX_SESSION_ENV_BYTES = 8 * 1024;
/** Bytes of stdout, and of stderr, in an answer. */
export const MAX_ANSWER_BYTES = 1024 * 1024;

function fits(value: unknown, maxBytes: number): boolean {
  return new TextEncoder().encode(JSON.stringify(value)).length <= maxBytes;
}

const ttlMs = z.int().min(10_000).max(MAX_TTL_MS);

/** Body of `POST /v1/sessions`. */
export const sessionSubmissionSchema = z.strictObject({
  agent: z.string().min(1).max(64).default("shell").openapi({
    description: "Whose image it is made from; `shell` is the bare one. No agent is started",
  }),
  memoryMib: z.int().min(128).max(64 * 1024).optional(),
  cpus: z.int().min(1).max(64).default(1),
  network: networkSchema.optional(),
  ttlMs: ttlMs.default(60 * MINUTE_MS).openapi({ description: "How long it lives, unless that is extended" }),
  env: envSchema.default({}).refine(
    (env) => fits(env, MAX_SESSION_ENV_BYTES),
    `must not be over ${MAX_SESSION_ENV_BYTES} bytes`,
  ).openapi({ description: "Variables of all commands in it" }),
  labels: labelsSchema.default({}),
  uploadId: z.string().regex(/^[a-z0-9]{1,40}$/).optional().openapi({
    description: "Upload that becomes its workspace",
  }),
}).openapi("SessionSubmission");

/** A checked request for a session. */
export type SessionSubmission = z.output<typeof sessionSubmissionSchema>;
/** What a client sends for a session. */
export type SessionSubmissionInput = z.input<typeof sessionSubmissionSchema>;

/** Body of `PATCH /v1/sessions/{id}`. */
export const sessionPatchSchema = z.strictObject({
  ttlMs: ttlMs.openapi({ description: "It is removed so long after now" }),
}).openapi("SessionPatch");

/** A session as the API shows it. */
export const sessionViewSchema = z.object({
  id: z.string(),
  state: z.enum(["starting", "running", "paused", "stopped", "failed"]),
  agent: z.string(),
  memoryMib: z.int(),
  cpus: z.int(),
  createdAt: z.string(),
  expiresAt: z.string().nullable().openapi({ description: "When it is removed by itself" }),
  isKept: z.boolean().openapi({ description: "It goes on by itself; else a task runs in it" }),
  labels: z.record(z.string(), z.string()),
  cause: z.string().optional().openapi({ description: "Why it failed" }),
}).openapi("Session");

/** A session as the API shows it. */
export type SessionView = Readonly<z.infer<typeof sessionViewSchema>>;

/** Size of a terminal in characters. */
export const terminalSizeSchema = z.object({
  rows: z.int().min(0).max(65535),
  cols: z.int().min(0).max(65535),
});

const command = {
  argv: z.array(z.string().max(MAX_COMMAND_BYTES)).max(1000).readonly().default([]),
  env: envSchema.default({}).openapi({ description: "Variables beside those of the session" }),
  cwd: z.string().startsWith("/").max(4096).default("/workspace"),
  user: z.enum(["agent", "root"]).default("agent"),
};

function fitsOneFrame({ argv, env, cwd }: { argv: readonly string[]; env: object; cwd: string }): boolean {
  return fits([argv, env, cwd], MAX_COMMAND_BYTES);
}

const TOO_LONG = {
  path: ["argv"],
  message: `must not be over ${MAX_COMMAND_BYTES} bytes with its variables`,
};

/** First message of a client on `/v1/sessions/{id}/exec`. */
export const execSchema = z.strictObject({
  ...command,
  /** in place of `argv`: the agent that waits for a terminal */
  agent: z.boolean().default(false),
  /** the command reads what is sent (default: its stdin is empty) */
  stdin: z.boolean().default(false),
  /** run it on a terminal of this size (default: on pipes) */
  terminal: terminalSizeSchema.optional(),
  /** the terminal outlives its connection for a while, see `exec_protocol.ts` */
  detachable: z.boolean().default(false),
}).refine(({ argv, agent }) => agent === (argv.length === 0), {
  path: ["argv"],
  message: "must say what to run, unless it is the agent",
}).refine(fitsOneFrame, TOO_LONG).refine(
  ({ detachable, terminal, agent }) => !detachable || (terminal !== undefined && !agent),
  {
    path: ["detachable"],
    message: "is for commands on a terminal",
  },
);

/** A checked first message. */
export type ExecSubmission = z.output<typeof execSchema>;
/** What a client sends first. */
export type ExecSubmissionInput = z.input<typeof execSchema>;

/** Body of `POST /v1/sessions/{id}/exec`. */
export const runSchema = z.strictObject({
  ...command,
  argv: z.array(z.string().max(MAX_COMMAND_BYTES)).min(1).max(1000).readonly(),
  stdin: z.string().optional().openapi({ description: "What the command reads (default: nothing)" }),
  timeoutMs: z.int().min(100).max(60 * MINUTE_MS).default(MINUTE_MS),
}).refine(fitsOneFrame, TOO_LONG).openapi("Command");

/** A checked command. */
export type RunSubmission = z.output<typeof runSchema>;
/** What a client sends as a command. */
export type RunSubmissionInput = z.input<typeof runSchema>;

/** How a command ended, with what it printed. */
export const runResultSchema = z.object({
  exitCode: z.int().nullable().openapi({ description: "null: a signal, or the time limit, ended it" }),
  signal: z.int().nullable(),
  timedOut: z.boolean(),
  stdout: z.string(),
  stderr: z.string(),
  truncated: z.boolean().openapi({
    description: `It printed more: of stdout and stderr the first ${MAX_ANSWER_BYTES} bytes each are kept`,
  }),
}).openapi("CommandResult");

/** How a command ended, with what it printed. */
export type RunResult = Readonly<z.infer<typeof runResultSchema>>;

/** What is in a folder of a guest. */
export const folderListingSchema = z.object({
  entries: z.array(z.object({
    name: z.string(),
    type: z.enum(["file", "folder", "symlink", "other"]),
    sizeBytes: z.int(),
    mode: z.int().openapi({ description: "Permission bits" }),
    modifiedAt: z.string(),
  })).max(MAX_LISTED_ENTRIES),
  truncated: z.boolean().openapi({ description: "There is more" }),
}).openapi("FolderListing");

/** What is in a folder of a guest. */
export type FolderListing = Readonly<z.infer<typeof folderListingSchema>>;
