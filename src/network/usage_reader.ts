/**
 * Reads the tokens that a model's answer says it used, as the answer passes: from the streams of OpenAI's Responses and
 * Chat Completions and of Anthropic's Messages, and from their plain JSON. Nothing in it is trusted, and no more is kept
 * than one line.
 *
 * @module
 */

import type { TokenUsage } from "../../agent-images/agent_spec.ts";
import { object, parseObject } from "../../agent-images/json.ts";
import { LineSplitter } from "./line_splitter.ts";

/** What one answer says of itself. */
export interface AnswerUsage extends TokenUsage {
  /** of the input, what went to a cache */
  readonly cacheWriteTokens: number;
  /** of these, for an hour */
  readonly cacheWriteHourTokens: number;
  /** model that answered */
  readonly model?: string;
}

/** Longest line that is looked at: the last event of OpenAI's stream repeats the whole answer. */
const MAX_LINE_BYTES = 8 * 1024 * 1024;
const MAX_NAME_LENGTH = 200;

/** Takes an answer's bytes. */
export class UsageReader {
  readonly #lines = new LineSplitter(MAX_LINE_BYTES, "drop");
  /** largest value of each field so far: counts of a stream only grow */
  readonly #counts = new Map<string, number>();
  #model: string | undefined;

  push(chunk: Uint8Array): void {
    for (const line of this.#lines.push(chunk)) this.#read(line);
  }

  /** The answer is over: what it said, or `undefined` if it said nothing. */
  end(): AnswerUsage | undefined {
    for (const line of this.#lines.flush()) this.#read(line);
    if (this.#counts.size === 0) return undefined;
    const of = (name: string): number => this.#counts.get(name) ?? 0;
    // Anthropic counts what came from its cache, or went to it, beside the input.
    const cacheRead = of("cache_read_input_tokens");
    const cacheCreation = of("cache_creation_input_tokens");
    return {
      inputTokens: of("input_tokens") + of("prompt_tokens") + cacheRead + cacheCreation,
      cachedTokens: of("cached_tokens") + cacheRead,
      cacheWriteTokens: of("cache_write_tokens") + cacheCreation,
      cacheWriteHourTokens: of("ephemeral_1h_input_tokens"),
      outputTokens: of("output_tokens") + of("completion_tokens"),
      ...(this.#model === undefined ? {} : { model: this.#model }),
    };
  }

  #read(line: string): void {
    if (!line.includes('"usage"')) return;
    const event = parseObject(line.startsWith("data:") ? line.slice("data:".length) : line) ?? {};
    for (const holder of [event, event.response, event.message]) {
      const { model, usage: found } = object(holder);
      const usage = object(found);
      if (typeof model === "string" && model.length <= MAX_NAME_LENGTH) this.#model ??= model;
      const parts = [
        usage,
        object(usage.input_tokens_details),
        object(usage.prompt_tokens_details),
        object(usage.cache_creation),
      ];
      for (const [name, value] of parts.flatMap((part) => Object.entries(part))) {
        if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0 || !FIELDS.has(name)) {
          continue;
        }
        this.#counts.set(name, Math.max(value, this.#counts.get(name) ?? 0));
      }
    }
  }
}

const FIELDS: ReadonlySet<string> = new Set([
  "input_tokens",
  "prompt_tokens",
  "cached_tokens",
  "cache_write_tokens",
  "ephemeral_1h_input_tokens",
  "cache_read_input_tokens",
  "cache_creation_input_tokens",
  "output_tokens",
  "completion_tokens",
]);
