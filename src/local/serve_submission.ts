/**
 * What a submission lacks for the server inside the emulated host, which cannot build images, is not on this machine's
 * network, and has none of its keys.
 *
 * @module
 */

import { findAgent } from "../session/agents.ts";
import { prepareImage } from "../images/prepare.ts";
import type { OnProgress } from "../images/progress.ts";
import { SessionError } from "../session/session_error.ts";
import { toEmulatedUrl } from "./local_host.ts";
import type { ServerCredentials } from "./server_credentials.ts";

/** What {@linkcode completeSubmission} works with. */
export interface SubmissionOptions {
  readonly credentialsFor: ServerCredentials;
  readonly onProgress: OnProgress;
}

const SUBMISSION_PATHS: ReadonlySet<string> = new Set(["/v1/tasks", "/v1/sessions"]);
/** Larger ones the server inside refuses. */
const MAX_BYTES = 4 * 1024 * 1024;

/** Whether a request submits a task, or asks for a session. */
export function isSubmission(request: Request, path: string): boolean {
  return request.method === "POST" && SUBMISSION_PATHS.has(path);
}

async function readText(body: ReadableStream<Uint8Array> | null): Promise<string> {
  const decoder = new TextDecoder();
  let [text, byteCount] = ["", 0];
  for await (const chunk of body ?? []) {
    byteCount += chunk.length;
    if (byteCount > MAX_BYTES) throw new SessionError("too_large", "Submission is too large");
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : undefined;
  } catch {
    return undefined;
  }
}

/** The body of a submission as the server inside is to have it; its agent's image is there afterwards. */
export async function completeSubmission(
  body: ReadableStream<Uint8Array> | null,
  path: string,
  { credentialsFor, onProgress }: SubmissionOptions,
): Promise<string> {
  const text = await readText(body);
  const submission = parseObject(text);
  const isTask = path === "/v1/tasks";
  const agent = submission?.agent ?? (isTask ? undefined : "shell");
  const spec = typeof agent === "string" ? findAgent(agent) : undefined;
  // What is wrong with it the server inside says
  if (submission === undefined || spec === undefined) return text;
  await prepareImage(spec, { onProgress });
  if (!isTask) return text;
  const { modelUrl, apiKey, modelHeaders } = submission;
  const { headers } = credentialsFor(spec.name);
  const hasOwn = apiKey !== undefined || modelHeaders !== undefined || modelUrl !== undefined;
  const own = hasOwn || headers.length === 0 ? {} : { modelHeaders: headers };
  const isUrl = typeof modelUrl === "string" && URL.canParse(modelUrl);
  const url = isUrl ? { modelUrl: toEmulatedUrl(modelUrl) } : {};
  return JSON.stringify({ ...submission, ...own, ...url });
}
