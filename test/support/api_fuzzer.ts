/**
 * Sends what an OpenAPI document describes, and what it nearly describes, to the API that it describes, and finds answers
 * that it does not.
 *
 * @module
 */

import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import ajvFormats from "ajv-formats";
import { generateSync } from "json-schema-faker";
import { Random } from "./random.ts";

type Json = Record<string, unknown>;

interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required?: boolean;
  readonly schema: Json;
}

interface Operation {
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: Json }> };
  readonly responses: Record<string, { readonly content?: Record<string, { readonly schema: Json }> }>;
}

/** The parts of a document that are used here. */
export interface OpenApiDocument {
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, Json> };
}

/** What a fuzzer is made from. */
export interface ApiFuzzerOptions {
  readonly document: OpenApiDocument;
  readonly seed: number;
  readonly send: (path: string, init: RequestInit) => Promise<Response>;
  /** ids that exist, for some of the requests */
  readonly ids: (path: string) => readonly string[] | Promise<readonly string[]>;
  /** values of fields whose meaning is not in the description (none: the field is left out) */
  readonly known: Readonly<Record<string, readonly unknown[]>>;
}

const STRANGE: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1e308,
  2 ** 53,
  "",
  "\0",
  "\ud800",
  "../../etc/passwd",
  "%2e%2e%2f",
  "a".repeat(70_000),
  [],
  {},
  [[[[]]]],
  { __proto__: null, constructor: 1, toString: 2 },
];
/** Share of requests that are made wrong on purpose. */
const WRONG = 0.4;

/** Whether a text can stand in a header. */
function isHeaderText(text: string): boolean {
  return /^[\x20-\x7e]*$/.test(text);
}

/** Most items, and characters, of what is made: of more the generator takes minutes. */
const MADE_LIMITS: Readonly<Record<string, number>> = { maxItems: 4, maxLength: 100 };

/** The schema as the generator can use it: with less of everything, and without patterns of the kind "anything but". */
function forGenerator(schema: Json): Json {
  const text = JSON.stringify(schema, (key, value: unknown) => {
    if (key === "pattern" && typeof value === "string" && value.includes("[^")) return undefined;
    const limit = MADE_LIMITS[key];
    return limit !== undefined && typeof value === "number" ? Math.min(value, limit) : value;
  });
  return JSON.parse(text) as Json;
}

/** Calls the operations of an API at random. */
export class ApiFuzzer {
  readonly #options: ApiFuzzerOptions;
  readonly #random: () => number;
  readonly #ajv = new Ajv2020({ strict: false, allErrors: false });
  readonly #validators = new Map<unknown, ValidateFunction>();
  readonly #prepared = new Map<Json, Json>();
  /** requests that were sent, by operation, with the statuses that came */
  readonly seen = new Map<string, Set<number>>();
  /** what is wrong with answers */
  readonly faults: string[] = [];

  constructor(options: ApiFuzzerOptions) {
    this.#options = options;
    const random = new Random(options.seed);
    this.#random = () => random.next() / 2 ** 32;
    ajvFormats.default(this.#ajv);
  }

  /** all operations that are called: `[method, path, operation]` */
  get operations(): [string, string, Operation][] {
    return Object.entries(this.#options.document.paths).flatMap(([path, methods]) =>
      Object.entries(methods)
        .map(([method, operation]): [string, string, Operation] => [method, path, operation])
    );
  }

  /** Calls each operation `count` times, in turn. */
  async run(count: number): Promise<void> {
    for (let round = 0; round < count; round++) {
      for (const [method, path, operation] of this.operations) await this.#call(method, path, operation);
    }
  }

  async #call(method: string, path: string, operation: Operation): Promise<void> {
    const name = `${method} ${path}`;
    const { url, headers } = this.#request(path, operation, await this.#options.ids(path));
    const { body, contentType } = this.#body(operation);
    const response = await this.#options.send(url, {
      method: method.toUpperCase(),
      headers: { ...headers, ...(contentType === undefined ? {} : { "content-type": contentType }) },
      ...(body === undefined ? {} : { body }),
    });
    const text = await response.text();
    const statuses = this.seen.get(name) ?? new Set();
    this.seen.set(name, statuses.add(response.status));
    const say = (what: string): void => {
      const sent = `${name} as ${url.slice(0, 300)} with ${String(body).slice(0, 300)}`;
      this.faults.push(`${sent}: ${what}: ${response.status} ${text.slice(0, 300)}`);
    };
    if (response.status >= 500) return say("the server failed");
    const described = operation.responses[response.status];
    if (described === undefined) return say("the status is not described");
    const type = (response.headers.get("content-type") ?? "").split(";")[0] ?? "";
    if (described.content === undefined) return text === "" ? undefined : say("there should be no body");
    const schema = described.content[type]?.schema;
    if (schema === undefined) return say(`the type "${type}" is not described`);
    if (!type.endsWith("json")) return;
    const validate = this.#validator(schema);
    if (!validate(JSON.parse(text))) {
      say(`the body is not as described (${this.#ajv.errorsText(validate.errors)})`);
    }
  }

  #validator(schema: Json): ValidateFunction {
    const known = this.#validators.get(schema);
    if (known !== undefined) return known;
    const made = this.#ajv.compile(this.#resolved(schema));
    this.#validators.set(schema, made);
    return made;
  }

  /** The schema with those that it refers to in their places. */
  #resolved(schema: Json): Json {
    const text = JSON.stringify(schema, (_key, value: unknown) => {
      const ref = (value as { $ref?: unknown } | null)?.$ref;
      if (typeof ref !== "string") return value;
      return this.#options.document.components.schemas[ref.replace("#/components/schemas/", "")];
    });
    return JSON.parse(text) as Json;
  }

  #made(schema: Json): unknown {
    const seed = Math.floor(this.#random() * 2 ** 31);
    const prepared = this.#prepared.get(schema) ?? forGenerator(this.#resolved(schema));
    this.#prepared.set(schema, prepared);
    return generateSync(prepared as never, { seed, alwaysFakeOptionals: this.#random() < 0.2 } as never);
  }

  #isWrong(): boolean {
    return this.#random() < WRONG;
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items[Math.floor(this.#random() * items.length)];
  }

  #request(
    path: string,
    operation: Operation,
    ids: readonly string[],
  ): { url: string; headers: Record<string, string> } {
    const query = new URLSearchParams();
    const headers: Record<string, string> = {};
    let url = path;
    for (const parameter of operation.parameters ?? []) {
      const value = this.#value(parameter, ids);
      if (parameter.in === "path") {
        url = url.replace(`{${parameter.name}}`, encodeURIComponent(value.toWellFormed()));
      } else if (parameter.required !== true && this.#random() < 0.5) continue;
      else if (parameter.in === "query") query.append(parameter.name, value.toWellFormed());
      else if (isHeaderText(value) && value.length < 1000) headers[parameter.name] = value;
    }
    const text = query.toString().slice(0, 4000);
    return { url: text === "" ? url : `${url}?${text}`, headers };
  }

  #value({ name, schema }: Parameter, ids: readonly string[]): string {
    const isId = name === "id";
    if (isId && this.#random() < 0.6) return this.#pick(ids) ?? "none";
    const value = this.#isWrong() ? this.#pick(STRANGE) : this.#made(schema);
    const text = typeof value === "string" ? value : JSON.stringify(value);
    // An empty segment is another path
    return (isId && text === "" ? "none" : text).slice(0, 2000) || "none";
  }

  #body(operation: Operation): { body?: BodyInit; contentType?: string } {
    const content = operation.requestBody?.content;
    const [contentType, described] = Object.entries(content ?? {})[0] ?? [];
    if (contentType === undefined || described === undefined) return {};
    if (contentType !== "application/json") {
      return { body: String(this.#made(described.schema)), contentType };
    }
    if (this.#random() < 0.05) return { body: "{", contentType };
    if (this.#random() < 0.05) return { body: "{}", contentType: "text/plain" };
    const value = this.#withKnown(this.#made(described.schema));
    return { body: JSON.stringify(this.#isWrong() ? this.#spoiled(value) : value), contentType };
  }

  #withKnown(value: unknown): unknown {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(
      Object.entries(value).flatMap(([key, content]) => {
        const known = Object.hasOwn(this.#options.known, key) ? this.#options.known[key] : undefined;
        if (known === undefined || this.#random() < 0.1) return [[key, content]];
        return known.length === 0 ? [] : [[key, this.#pick(known)]];
      }),
    );
  }

  /** The value with something in it that is not what it was. */
  #spoiled(value: unknown): unknown {
    if (typeof value !== "object" || value === null || this.#random() < 0.1) return this.#pick(STRANGE);
    const keys = Object.keys(value);
    const key = this.#pick(keys);
    const copy = structuredClone(value) as Json;
    if (key === undefined || this.#random() < 0.1) copy["surprise"] = this.#pick(STRANGE);
    else if (this.#random() < 0.2) delete copy[key];
    else copy[key] = this.#random() < 0.5 ? this.#spoiled(copy[key]) : this.#pick(STRANGE);
    return copy;
  }
}
