/**
 * Tasks of a service, as the command line submits and fetches them.
 *
 * @module
 */

import { type ApiClient, ApiError, type SubmissionInput, type TaskView } from "../api/client.ts";
import { DEFAULT_EGRESS } from "../network/egress_policy.ts";
import { LocalError } from "./local_error.ts";
import { packWorkspace } from "./pack_workspace.ts";
import { networkRequest } from "./project_egress.ts";
import { checkResultPlaces, type ResultPlaces, writeResults } from "./result_files.ts";
import { TaskRepository } from "./task_repository.ts";

/** How often an answer that was lost on its way is asked for again. */
const MAX_LOST_ANSWERS = 3;

/** What is submitted. */
export interface RemoteSubmission {
  readonly submission: SubmissionInput;
  /** folder of this machine, or URL#branch, that the workspace is made from */
  readonly repo?: string | undefined;
  readonly idempotencyKey?: string | undefined;
  readonly signal: AbortSignal;
  readonly onNotice: (message: string) => void;
}

/** Submits one task: whether a lost answer had made one already is not known, so that the same key asks again. */
export async function submitOnce(
  client: Pick<ApiClient, "submit">,
  submission: SubmissionInput,
  idempotencyKey: string = crypto.randomUUID(),
): Promise<TaskView> {
  for (let lost = 1;; lost++) {
    try {
      return await client.submit(submission, idempotencyKey);
    } catch (error) {
      const isAnswer = error instanceof ApiError && error.status !== 0;
      if (isAnswer || lost > MAX_LOST_ANSWERS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200 * lost));
    }
  }
}

/** Submits a task, with its workspace if it has one. */
export async function submitTask(client: ApiClient, options: RemoteSubmission): Promise<TaskView> {
  const { submission, idempotencyKey } = options;
  const workspace = await uploadWorkspace(client, { ...options, network: submission.network });
  return await submitOnce(client, { ...submission, ...workspace }, idempotencyKey);
}

/** Uploads a workspace, if there is one; its project's file takes away from what is allowed. */
export async function uploadWorkspace(
  client: ApiClient,
  options: Pick<RemoteSubmission, "repo" | "signal" | "onNotice"> & Pick<SubmissionInput, "network">,
): Promise<Pick<SubmissionInput, "network" | "uploadId">> {
  const { repo, network: wanted, signal, onNotice } = options;
  await using repository = await TaskRepository.open({ repo, signal, onNotice });
  const { folder } = repository;
  if (folder === undefined) return {};
  const { mode = DEFAULT_EGRESS.mode, allow = [], profiles = [] } = wanted ?? {};
  const network = await networkRequest({ mode, allow, profiles }, folder);
  const archive = packWorkspace(folder, (path, reason) => onNotice(`Left out "${path}": ${reason}`));
  const uploadId = await client.upload(ReadableStream.from(archive) as ReadableStream<Uint8Array>, signal);
  return { network, uploadId };
}

/** Reads submissions, a JSON object a line. @throws {LocalError} that names the line */
export function parseSubmissions(text: string): SubmissionInput[] {
  return text.split("\n").flatMap((line, index) => {
    if (line.trim() === "") return [];
    try {
      const value: unknown = JSON.parse(line);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        return [value as SubmissionInput];
      }
    } catch {
      // Said below
    }
    throw new LocalError(
      "usage",
      `Line ${index + 1} is not a task: {"agent":"shell","prompt":"make test"} is one`,
    );
  });
}

/** Does something for each, with so many at once; the first failure ends it. */
export async function forEachAtOnce<T>(
  items: readonly T[],
  atOnce: number,
  act: (item: T) => Promise<void>,
): Promise<void> {
  const left = items.values();
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, async () => {
    for (const item of left) await act(item);
  }));
}

/** Fetches what a task left, as `sandbox run` leaves it; gives its folder (empty: there is only the archive). */
export async function fetchResults(client: ApiClient, id: string, places: ResultPlaces): Promise<string> {
  await checkResultPlaces(places);
  const task = await client.task(id);
  if (task.result === null) {
    throw new LocalError("usage", `Task ${id} is ${task.state}: sandbox task watch ${id} waits for its end`);
  }
  const { agent, prompt } = task.request;
  const document = { agent, prompt, startedAt: task.startedAt, endedAt: task.endedAt, ...task.result };
  return (await writeResults(client, { ...places, id, document })).outFolder;
}
