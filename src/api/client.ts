/**
 * A client of the API: what the command line uses.
 *
 * @module
 */

import type { CredentialHeader } from "../../agent-images/agent_login.ts";
import type { TaskResult } from "../session/task.ts";
import { ApiError } from "./connection.ts";
import type { ServiceEvent, SubmissionInput, TaskView } from "./schemas.ts";
import { parseEventStream } from "./parse_event_stream.ts";
import { SessionClient } from "./session_client.ts";

export { parseEventStream } from "./parse_event_stream.ts";
export { ApiError } from "./connection.ts";
export { type ExecChild, ExecError } from "./exec_client.ts";
export type { TerminalSize } from "./exec_protocol.ts";
export type { ServiceEvent, SubmissionInput, TaskView } from "./schemas.ts";
export type { SessionView } from "./session_schemas.ts";
export { describeDecision, formatUsd } from "../session/task.ts";
export type { RecordedEvent, TaskEvent, TaskOutcome, TaskPhase, TaskResult } from "../session/task.ts";

/** Tries to reconnect to a task's events before giving up, with a growing pause. */
const MAX_RECONNECTS = 5;

/** What tasks are listed. */
export interface TaskListFilter {
  /** states, parted by commas */
  readonly state?: string | undefined;
  readonly agent?: string | undefined;
  /** `name:value` each */
  readonly labels?: readonly string[] | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

/** An event with its time. */
export type TimedTaskEvent = ServiceEvent & { readonly at: string };

/** Some of a task's events, each with its position. */
export interface EventPage {
  readonly events: readonly (TimedTaskEvent & { readonly seq: number })[];
  readonly lastSeq: number;
}

/** Name of a file that a task leaves. */
export type TaskFileKind =
  | "patch"
  | "workspace"
  | "transcript"
  | "raw"
  | "files"
  | "console"
  | "patches"
  | "commits"
  | "network";

/** A client of one server. */
export class ApiClient extends SessionClient {
  /** Stores an archive for a later task and gives its id. */
  async upload(content: ReadableStream<Uint8Array>, signal?: AbortSignal): Promise<string> {
    const response = await this.request("POST", "/v1/uploads", { body: content, signal });
    return (await response.json() as { id: string }).id;
  }

  /** Submits a task; with a key, the same submission again gives the same task. */
  async submit(submission: SubmissionInput, idempotencyKey?: string): Promise<TaskView> {
    const key = idempotencyKey === undefined ? {} : { "idempotency-key": idempotencyKey };
    const headers = { "content-type": "application/json", ...key };
    const response = await this.request("POST", "/v1/tasks", { body: JSON.stringify(submission), headers });
    return await response.json() as TaskView;
  }

  /** Events of a task, from the first to the last; survives broken connections. */
  async *events(id: string, signal?: AbortSignal): AsyncGenerator<TimedTaskEvent> {
    let lastId = "0";
    for (let failures = 0;;) {
      try {
        const headers = { "last-event-id": lastId };
        const response = await this.request("GET", `/v1/tasks/${id}/events`, { headers, signal });
        for await (const event of parseEventStream(response.body ?? new ReadableStream())) {
          lastId = event.id;
          failures = 0;
          const parsed = JSON.parse(event.data) as TimedTaskEvent;
          yield parsed;
          if (parsed.type === "result") return;
        }
      } catch (error) {
        if (signal?.aborted === true || (error instanceof ApiError && error.status !== 0)) throw error;
      }
      failures += 1;
      if (failures > MAX_RECONNECTS) {
        throw new ApiError("Connection to the server was lost", { status: 0, code: "connection_lost" });
      }
      await new Promise((resolve) => setTimeout(resolve, 200 * failures));
    }
  }

  /** Events of a task after a position, waiting up to `waitS` seconds for the first. */
  async eventPage(id: string, afterSeq: number, waitS: number): Promise<EventPage> {
    const path = `/v1/tasks/${id}/events?after=${afterSeq}&wait=${waitS}`;
    return await (await this.request("GET", path)).json() as EventPage;
  }

  /** A task as it is now. */
  async task(id: string): Promise<TaskView> {
    return await (await this.request("GET", `/v1/tasks/${id}`)).json() as TaskView;
  }

  /** Tasks, newest first; `cursor` is the page before's. */
  async tasks(filter: TaskListFilter = {}): Promise<{ tasks: TaskView[]; nextCursor: string | null }> {
    const query = new URLSearchParams();
    for (const name of ["state", "agent", "cursor"] as const) {
      const value = filter[name];
      if (value !== undefined) query.set(name, value);
    }
    if (filter.limit !== undefined) query.set("limit", String(filter.limit));
    for (const label of filter.labels ?? []) query.append("label", label);
    return await (await this.request("GET", `/v1/tasks?${query}`)).json() as {
      tasks: TaskView[];
      nextCursor: string | null;
    };
  }

  /** The result of a task that is over. */
  async result(id: string): Promise<TaskResult> {
    return await (await this.request("GET", `/v1/tasks/${id}/result`)).json() as TaskResult;
  }

  /** The first `maxBytes` of one of a task's files, as text; undefined when the task has none of this kind. */
  async readTaskFile(id: string, kind: TaskFileKind, maxBytes: number): Promise<string | undefined> {
    const response = await this.send("GET", `/v1/tasks/${id}/${kind}`, {
      headers: { range: `bytes=0-${maxBytes - 1}` },
    });
    if (response.ok) return await response.text();
    await response.body?.cancel();
    // Of a file without a byte there is no range
    return response.status === 416 ? "" : undefined;
  }

  /** Writes one of a task's files to `path`; false when the task has none of this kind. */
  async download(id: string, kind: TaskFileKind | "bundle", path: string): Promise<boolean> {
    let response: Response;
    try {
      response = await this.request("GET", `/v1/tasks/${id}/${kind}`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false;
      throw error;
    }
    const file = await Deno.open(path, { write: true, create: true, truncate: true });
    await (response.body ?? new Blob([]).stream()).pipeTo(file.writable);
    return true;
  }

  /** Replaces what a running task's requests to its model's API carry. */
  async renewCredentials(id: string, headers: readonly CredentialHeader[]): Promise<void> {
    const init = { body: JSON.stringify(headers), headers: { "content-type": "application/json" } };
    await (await this.request("PUT", `/v1/tasks/${id}/credentials`, init)).body?.cancel();
  }

  /** Ends a task. */
  async cancel(id: string): Promise<void> {
    await (await this.request("POST", `/v1/tasks/${id}/cancel`)).body?.cancel();
  }

  /** Ends a task if need be, and forgets it with its files. */
  async remove(id: string): Promise<void> {
    try {
      await (await this.request("DELETE", `/v1/tasks/${id}`)).body?.cancel();
    } catch (error) {
      // Gone already: that is what was wanted.
      if (!(error instanceof ApiError && error.status === 404)) throw error;
    }
  }
}
