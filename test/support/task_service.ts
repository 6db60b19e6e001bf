/**
 * A task service for tests: what runs its tasks is given; its state folder goes with it.
 *
 * @module
 */

import { createApp } from "../../src/api/app.ts";
import type { ApiRoutes } from "../../src/api/openapi.ts";
import { type SubmissionInput, submissionSchema, type TaskView } from "../../src/api/schemas.ts";
import {
  openTaskService,
  type TaskRunner,
  type TaskService,
  type TaskServiceOptions,
} from "../../src/api/task_service.ts";
import { lostResult, type TaskOutcome, type TaskResult } from "../../src/session/task.ts";

/** Token of the app. */
export const TEST_TOKEN = "test-token";

/** A result without anything in it. */
export function endedAs(outcome: TaskOutcome): TaskResult {
  return { ...lostResult(`It is ${outcome}`, outcome), exitCode: 0 };
}

/** A runner that waits until it is let go, for each task by itself. */
export class HeldRuns {
  readonly started: string[] = [];
  readonly #ends = new Map<string, (result: TaskResult) => void>();

  /** The runner. */
  readonly run: TaskRunner = async ({ id, request, signal, onEvent }) => {
    onEvent({ type: "phase", phase: "prepare", ms: 1 });
    this.started.push(request.prompt);
    const end = Promise.withResolvers<TaskResult>();
    this.#ends.set(id, end.resolve);
    signal.addEventListener("abort", () => end.resolve(endedAs("cancelled")), { once: true });
    return await end.promise;
  };

  /** tasks that run */
  get runningCount(): number {
    return this.#ends.size;
  }

  /** Ends a task's run, or the oldest one. */
  end(outcome: TaskOutcome = "done", id = this.#ends.keys().next().value ?? ""): void {
    this.#ends.get(id)?.(endedAs(outcome));
    this.#ends.delete(id);
  }
}

/** What {@linkcode withService} gives. */
export interface ServiceSetup {
  readonly service: TaskService;
  readonly app: ApiRoutes;
  readonly stateDir: string;
  readonly submit: (change?: Partial<SubmissionInput>) => Promise<TaskView>;
  readonly request: (
    method: string,
    path: string,
    init?: { body?: unknown; headers?: Record<string, string> },
  ) => Promise<Response>;
  /** Waits until a task is over. */
  readonly over: (id: string) => Promise<TaskView>;
}

/** Uses a service on a state folder. */
export async function withServiceOn(
  options: TaskServiceOptions,
  use: (setup: ServiceSetup) => Promise<void>,
): Promise<void> {
  const service = await openTaskService(options);
  const app = createApp({ service, token: TEST_TOKEN });
  const setup: ServiceSetup = {
    service,
    app,
    stateDir: options.stateDir,
    submit: async (change) =>
      await service.submit(submissionSchema.parse({ agent: "shell", prompt: "true", ...change })),
    request: async (method, path, { body, headers } = {}) =>
      await app.request(path, {
        method,
        headers: { authorization: `Bearer ${TEST_TOKEN}`, "content-type": "application/json", ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      }),
    over: async (id) => {
      const limit = AbortSignal.timeout(60_000);
      while (service.view(id).endedAt === null) {
        limit.throwIfAborted();
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      return service.view(id);
    },
  };
  try {
    await use(setup);
  } finally {
    await service.close();
  }
}

/** Uses a service with a state folder of its own. */
export async function withService(
  options: Omit<TaskServiceOptions, "stateDir">,
  use: (setup: ServiceSetup) => Promise<void>,
): Promise<void> {
  const stateDir = await Deno.makeTempDir();
  try {
    await withServiceOn({ ...options, stateDir }, use);
  } finally {
    await Deno.remove(stateDir, { recursive: true });
  }
}
