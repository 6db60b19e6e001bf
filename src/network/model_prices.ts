/**
 * Finds what a model costs, and what an answer of it did.
 *
 * @module
 */

import type { ModelPrice, PriceTable } from "../../agent-images/model_price.ts";
import type { AnswerUsage } from "./usage_reader.ts";

const PER_TOKENS = 1_000_000;
/** What a provider puts behind a model's name for one of its versions. */
const VERSION = /^[-@](?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|latest)$/;

/** The price of a model; tables that come first win, in one table the longest name. */
export function findPrice(tables: readonly PriceTable[], model: string): ModelPrice | undefined {
  for (const table of tables) {
    const name = Object.keys(table).filter((key) => isNameFor(key, model))
      .sort((a, b) => b.length - a.length)[0];
    if (name !== undefined) return table[name];
  }
  return undefined;
}

function isNameFor(key: string, model: string): boolean {
  if (key.endsWith("*")) return model.startsWith(key.slice(0, -1));
  return model === key || (model.startsWith(key) && VERSION.test(model.slice(key.length)));
}

/** What an answer cost, in USD. */
export function costOf(price: ModelPrice, usage: AnswerUsage): number {
  const { input, output, long } = price;
  const { cachedInput = input, cacheWrite = input, cacheWriteHour = cacheWrite } = price;
  const { cachedTokens, cacheWriteTokens, cacheWriteHourTokens } = usage;
  // Counts of strangers: none may make another negative.
  const plain = Math.max(0, usage.inputTokens - cachedTokens - cacheWriteTokens);
  const minutes = Math.max(0, cacheWriteTokens - cacheWriteHourTokens);
  const inputCost = plain * input + cachedTokens * cachedInput + minutes * cacheWrite +
    cacheWriteHourTokens * cacheWriteHour;
  const isLong = long !== undefined && usage.inputTokens > long.overTokens;
  return (inputCost * (isLong ? long.inputFactor : 1) +
    usage.outputTokens * output * (isLong ? long.outputFactor : 1)) / PER_TOKENS;
}
