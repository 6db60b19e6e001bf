/**
 * The routes of tasks as OpenAPI describes them.
 *
 * @module
 */

import { TASK_STATES } from "../store/task_state.ts";
import { bytesAnswer, createRoute, idParams, jsonAnswer, jsonBody, problems, z } from "./openapi.ts";
import { credentialsSchema, submissionSchema } from "./schemas.ts";

const time = z.iso.datetime();
const stateSchema = z.enum(TASK_STATES);

const resultSchema = z.looseObject({
  outcome: z.string(),
  cause: z.string(),
  exitCode: z.int().nullable(),
  signal: z.int().nullable(),
  finalMessage: z.string().nullable(),
  timesMs: z.record(z.string(), z.number()),
  versions: z.record(z.string(), z.string()),
}).openapi("TaskResult");

const taskSchema = z.object({
  id: z.string(),
  state: stateSchema,
  cause: z.string().nullable(),
  attempt: z.int(),
  labels: z.record(z.string(), z.string()),
  priority: z.int(),
  request: z.looseObject({ agent: z.string(), prompt: z.string() }),
  result: resultSchema.nullable(),
  createdAt: time,
  startedAt: time.nullable(),
  endedAt: time.nullable(),
}).openapi("Task");

const eventsSchema = z.object({
  events: z.array(z.looseObject({ seq: z.int(), at: time, type: z.string() })),
  lastSeq: z.int(),
}).openapi("Events");

const several = z.union([z.string(), z.array(z.string())]).optional();

/** Filter and page of a list. */
const listQuery = z.object({
  state: z.string().max(200).optional().openapi({ description: "states, parted by commas" }),
  agent: z.string().max(64).optional(),
  label: several.openapi({ description: "name:value; given several times, all must be there" }),
  limit: z.coerce.number().int().min(1).max(200).default(50),
  cursor: z.string().max(100).optional().openapi({ description: "nextCursor of the page before" }),
});

const SEQ = /^[0-9]{1,15}$/;

/** Descriptions of the routes below `/v1/tasks`. */
export const TASK_ROUTES = {
  submit: createRoute({
    method: "post",
    path: "/",
    summary: "Submit a task",
    request: {
      headers: z.object({
        "idempotency-key": z.string().min(1).max(200).optional().openapi({
          description: "the same key with the same body gives the task that it made first",
        }),
      }),
      body: jsonBody(submissionSchema),
    },
    responses: {
      202: jsonAnswer("Accepted: from now on it is not lost", taskSchema),
      ...problems(404, 413, 415, 422),
    },
  }),
  list: createRoute({
    method: "get",
    path: "/",
    summary: "Tasks, newest first",
    request: { query: listQuery },
    responses: {
      200: jsonAnswer(
        "A page of them",
        z.object({ tasks: z.array(taskSchema), nextCursor: z.string().nullable() }),
      ),
      ...problems(),
    },
  }),
  get: createRoute({
    method: "get",
    path: "/{id}",
    summary: "A task as it is now",
    request: { params: idParams },
    responses: { 200: jsonAnswer("The task", taskSchema), ...problems(404) },
  }),
  remove: createRoute({
    method: "delete",
    path: "/{id}",
    summary: "End a task if need be, and forget it with its files",
    request: { params: idParams },
    responses: { 204: { description: "It is gone" }, ...problems(404) },
  }),
  cancel: createRoute({
    method: "post",
    path: "/{id}/cancel",
    summary: "End a task; one that is over stays as it is",
    request: { params: idParams },
    responses: { 202: jsonAnswer("It ends, or has ended", taskSchema), ...problems(404) },
  }),
  credentials: createRoute({
    method: "put",
    path: "/{id}/credentials",
    summary: "Replace what the task's requests to its model carry",
    request: { params: idParams, body: jsonBody(credentialsSchema) },
    responses: { 204: { description: "Replaced" }, ...problems(404, 409, 413, 415) },
  }),
  events: createRoute({
    method: "get",
    path: "/{id}/events",
    summary: "What happens in a task: a stream of server-sent events, or with `wait` the next page of them",
    request: {
      params: idParams,
      headers: z.object({
        "last-event-id": z.string().regex(SEQ).optional().openapi({ description: "go on after this one" }),
      }),
      query: z.object({
        after: z.string().regex(SEQ).optional().openapi({ description: "as Last-Event-ID" }),
        wait: z.coerce.number().int().min(0).max(60).optional()
          .openapi({ description: "answer with JSON, after this many seconds at most" }),
      }),
    },
    responses: {
      200: {
        description: "The events",
        content: {
          "text/event-stream": { schema: z.string() },
          "application/json": { schema: eventsSchema },
        },
      },
      ...problems(404),
    },
  }),
  result: createRoute({
    method: "get",
    path: "/{id}/result",
    summary: "The result of a task that is over",
    request: { params: idParams },
    responses: { 200: jsonAnswer("The result", resultSchema), ...problems(404, 409) },
  }),
  changedFile: createRoute({
    method: "get",
    path: "/{id}/files/{path}",
    summary: "One of the files that the task added or changed",
    request: { params: idParams.extend({ path: z.string().min(1).max(4096) }) },
    responses: { 200: bytesAnswer("Its content", "application/octet-stream"), ...problems(404, 409) },
  }),
} as const;

const rangeHeaders = z.object({
  range: z.string().max(100).optional(),
  "if-range": z.string().max(100).optional(),
});

/** The description of a route that gives one of a task's files. */
// deno-lint-ignore explicit-function-return-type
export function fileRoute(kind: string, contentType: string) {
  return createRoute({
    method: "get",
    path: `/{id}/${kind}` as const,
    summary: `The task's ${kind}`,
    request: { params: idParams, headers: rangeHeaders },
    responses: {
      200: bytesAnswer("All of it", contentType),
      206: bytesAnswer("The part that was asked for", contentType),
      ...problems(404, 409, 416),
    },
  });
}
