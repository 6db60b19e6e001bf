/**
 * OpenAI's prices, standard tier, as published and reported by November 2026. A guide for budgets, not a bill.
 *
 * @module
 */

import type { ModelPrice, PriceTable } from "./model_price.ts";

const LONG = { overTokens: 272_000, inputFactor: 2, outputFactor: 1.5 } as const;

function price(input: number, cachedInput: number, output: number): ModelPrice {
  return { input, cachedInput, output, long: LONG };
}

/** From GPT-5.6 on, what goes to the cache costs a quarter more than other input. */
function cached(input: number, cachedInput: number, output: number): ModelPrice {
  return { ...price(input, cachedInput, output), cacheWrite: input * 1.25 };
}

/** Prices of OpenAI's models. */
export const OPENAI_PRICES: PriceTable = {
  "gpt-6.1-sol": cached(2, 0.1, 10),
  "gpt-6.1-terra": cached(1, 0.05, 5),
  "gpt-6-sol": cached(2, 0.2, 10),
  "gpt-6-luna": cached(0.1, 0.01, 0.5),
  "gpt-5.6-sol": cached(4, 0.4, 20),
  "gpt-5.6-terra": cached(2, 0.2, 12),
  "gpt-5.6-luna": cached(0.2, 0.02, 1.2),
  "gpt-5.5": price(5, 0.5, 30),
  "gpt-5.5-pro": price(30, 30, 180),
  "gpt-5.4": price(2.5, 0.25, 15),
  "gpt-5.4-mini": price(0.75, 0.075, 4.5),
  "gpt-5.4-nano": price(0.2, 0.02, 1.25),
  "gpt-5.4-pro": price(30, 30, 180),
};
