/**
 * What an agent does, in one form for all agents: the lines of `transcript.jsonl`, the events of the API and of
 * `sandbox run --json`. The checks, the types and the documentation are all made from the definitions below.
 *
 * @module
 */
import { z } from "zod";

/** Version of the form. It changes when a field changes its meaning or goes; new fields and new types may come at any time. */
export const EVENT_VERSION = 1;

const STAMP = {
  v: z.literal(EVENT_VERSION).describe("version of this form"),
  at: z.iso.datetime().describe("when it was seen, UTC"),
};

// deno-lint-ignore explicit-function-return-type -- it is the schema, with all of its types
function event<const T extends string, F extends z.ZodRawShape>(type: T, about: string, fields: F) {
  return z.strictObject({ ...STAMP, type: z.literal(type), ...fields }).describe(about);
}

const truncated = z.boolean().optional().describe("only the beginning is here; raw.jsonl has more of it");

/** An event as it is recorded. */
export const recordedEventSchema = z.discriminatedUnion("type", [
  event("message", "The agent said something", { text: z.string().describe("what it said"), truncated }),
  event("reasoning", "What the model thought, where the agent shows it", {
    text: z.string().describe("its thoughts, or their summary"),
    truncated,
  }),
  event("tool_call", "A tool was called", {
    id: z.string().describe("the result has the same one"),
    name: z.string().describe("the tool, as the agent calls it"),
    command: z.boolean().describe("`input` is a command for the shell"),
    input: z.string().describe("what the tool was given, readable"),
    truncated,
  }),
  event("tool_result", "A tool call ended; its `tool_call` came before. A call that never ended has none", {
    id: z.string().describe("the one of its call"),
    ok: z.boolean().describe("it did what it was asked, as far as the agent says"),
    exitCode: z.int().nullable().describe("exit code of a command (null: none is known)"),
    durationMs: z.number().nonnegative().describe("time since the call in `ms`"),
    output: z.string().describe("what the tool gave back"),
    truncated,
  }),
  event(
    "file_change",
    "The agent says that it changed files (by a command, it may do so without saying it)",
    {
      paths: z.array(z.string()).readonly().describe("the files, as the agent names them"),
    },
  ),
  event("usage", "Tokens that the agent counted; each of these takes the place of the one before", {
    inputTokens: z.number().nonnegative().describe("all that the model read"),
    cachedTokens: z.number().nonnegative().describe("of these, from a cache"),
    outputTokens: z.number().nonnegative().describe("what it wrote"),
  }),
  event("error", "Something went wrong", {
    message: z.string().describe("what"),
    fatal: z.boolean().describe("the agent gave up because of it"),
    truncated,
  }),
  event("done", "The agent says that it completed its turn", {}),
]);

/** An event as it is recorded. */
export type RecordedEvent = z.infer<typeof recordedEventSchema>;

type WithoutStamp<E> = E extends { type: "tool_result" }
  ? Omit<E, "v" | "at" | "truncated" | "durationMs"> & { durationMs?: number }
  : E extends unknown ? Omit<E, "v" | "at" | "truncated">
  : never;

/** An event as an agent's parser gives it. */
export type AgentEvent = WithoutStamp<RecordedEvent>;

/** One field of one type of event. */
export interface EventField {
  readonly name: string;
  /** its type in JSON */
  readonly type: string;
  readonly about: string;
  readonly isOptional: boolean;
}

/** One type of event, for people. */
export interface EventDescription {
  readonly type: string;
  readonly about: string;
  readonly fields: readonly EventField[];
}

interface JsonSchema {
  readonly type?: string;
  readonly const?: unknown;
  readonly description?: string;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

/** The form as a JSON Schema. */
export function eventJsonSchema(): JsonSchema {
  return z.toJSONSchema(recordedEventSchema) as JsonSchema;
}

function typeName(schema: JsonSchema): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf !== undefined) return schema.anyOf.map(typeName).join(" or ");
  return schema.type === "array" ? `list of ${typeName(schema.items ?? {})}` : schema.type ?? "any";
}

/** All types of events with their fields; `v`, `at` and `type`, which all have, are left out. */
export function describeEvents(): EventDescription[] {
  const { oneOf, anyOf } = eventJsonSchema();
  return (oneOf ?? anyOf ?? []).map(({ description = "", properties = {}, required = [] }) => ({
    type: String(properties.type?.const),
    about: description,
    fields: Object.entries(properties).filter(([name]) => !/^(v|at|type)$/.test(name)).map((
      [name, field],
    ) => ({
      name,
      type: typeName(field),
      about: field.description ?? "",
      isOptional: !required.includes(name),
    })),
  }));
}
