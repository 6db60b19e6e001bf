/**
 * The page's way to the service: with a token that stays in this tab.
 *
 * @module
 */

import { parseEventStream } from "../parse_event_stream.ts";
import type { ServiceEvent, TaskView } from "../schemas.ts";

export type { TaskView } from "../schemas.ts";

const TOKEN_KEY = "paddock.token";

/** An event with its time and position. */
export type PageEvent = ServiceEvent & { readonly at: string; readonly seq: number };

/** The token that is used (empty: there is none). */
export function token(): string {
  return sessionStorage.getItem(TOKEN_KEY) ?? "";
}

/** Uses a token from now on. */
export function useToken(text: string): void {
  sessionStorage.setItem(TOKEN_KEY, text.trim());
}

/** The service refused. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

/** Asks the service. @throws {Refusal} */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("authorization", `Bearer ${token()}`);
  if (typeof init.body === "string") headers.set("content-type", "application/json");
  const response = await fetch(path, { ...init, headers });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({})) as { detail?: string };
  throw new Refusal(response.status, problem.detail ?? `The server answered ${response.status}`);
}

/** A page of tasks, newest first. */
export async function listTasks(state: string): Promise<readonly TaskView[]> {
  const query = state === "" ? "" : `&state=${state}`;
  return (await (await ask(`/v1/tasks?limit=100${query}`)).json() as { tasks: TaskView[] }).tasks;
}

/** A task. */
export async function getTask(id: string): Promise<TaskView> {
  return await (await ask(`/v1/tasks/${id}`)).json() as TaskView;
}

/** A task's events from its first to its last; a broken connection is made anew. */
export async function* taskEvents(id: string, signal: AbortSignal): AsyncGenerator<PageEvent> {
  let seq = 0;
  while (!signal.aborted) {
    try {
      const response = await ask(`/v1/tasks/${id}/events`, {
        headers: { "last-event-id": `${seq}` },
        signal,
      });
      for await (const { id: position, data } of parseEventStream(response.body ?? new ReadableStream())) {
        seq = Number(position);
        const event = { ...JSON.parse(data) as PageEvent, seq };
        yield event;
        if (event.type === "result") return;
      }
    } catch (error) {
      if (signal.aborted || error instanceof Refusal) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
