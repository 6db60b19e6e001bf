/**
 * Anthropic's prices as published by November 2026. A guide for budgets, not a bill.
 *
 * @module
 */

import type { ModelPrice, PriceTable } from "../model_price.ts";

/** Five minutes in the cache cost a quarter more than other input, an hour twice as much. */
function price(input: number, cachedInput: number, output: number): ModelPrice {
  return { input, cachedInput, output, cacheWrite: input * 1.25, cacheWriteHour: input * 2 };
}

/** Prices of Anthropic's models. */
export const ANTHROPIC_PRICES: PriceTable = {
  "claude-fable-5-1": price(10, 0.25, 50),
  "claude-mythos-5-1": price(10, 0.25, 50),
  "claude-fable-5": price(10, 1, 50),
  "claude-mythos-5": price(10, 1, 50),
  "claude-opus-5-5": price(4, 0.2, 20),
  "claude-opus-5": price(5, 0.5, 25),
  "claude-opus-4-8": price(5, 0.5, 25),
  "claude-opus-4-7": price(5, 0.5, 25),
  "claude-opus-4-6": price(5, 0.5, 25),
  "claude-opus-4-5": price(5, 0.5, 25),
  "claude-opus-4-1": price(15, 1.5, 75),
  "claude-opus-4": price(15, 1.5, 75),
  "claude-sonnet-5-5": price(2, 0.1, 10),
  "claude-sonnet-5": price(2, 0.2, 10),
  "claude-sonnet-4-6": price(3, 0.3, 15),
  "claude-sonnet-4-5": price(3, 0.3, 15),
  "claude-sonnet-4": price(3, 0.3, 15),
  "claude-haiku-5-5": {
    ...price(0.1, 0.01, 0.5),
    long: { overTokens: 100_000, inputFactor: 5, outputFactor: 5 },
  },
  "claude-haiku-4-5": price(1, 0.1, 5),
};
