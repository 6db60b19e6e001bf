import assert from "node:assert/strict";
import { OPENAI_PRICES } from "../../agent-images/openai_prices.ts";
import { formatUsd, ModelBudget } from "../../src/network/model_budget.ts";
import { costOf, findPrice } from "../../src/network/model_prices.ts";
import type { AnswerUsage } from "../../src/network/usage_reader.ts";

function usage(inputTokens: number, outputTokens: number, more: Partial<AnswerUsage> = {}): AnswerUsage {
  return {
    inputTokens,
    outputTokens,
    cachedTokens: 0,
    cacheWriteTokens: 0,
    cacheWriteHourTokens: 0,
    ...more,
  };
}

Deno.test("ModelBudget refuses once its tokens are used, and counts without a limit", () => {
  const budget = new ModelBudget({ maxTokens: 150 });
  assert.equal(budget.refusal(), undefined);
  budget.add(usage(100, 20));
  assert.equal(budget.refusal(), undefined);
  budget.add(usage(30, 0, { cachedTokens: 30 }));
  assert.equal(budget.wasExceeded, false);
  assert.match(budget.refusal() ?? "", /150 tokens is used up \(150 were used\)/);
  assert.equal(budget.wasExceeded, true);
  assert.deepEqual(budget.used, { inputTokens: 130, cachedTokens: 30, outputTokens: 20 });
  const unlimited = new ModelBudget();
  unlimited.add(usage(1e9, 1e9));
  assert.equal(unlimited.refusal(), undefined);
  assert.equal(unlimited.costUsd, undefined);
});

Deno.test("ModelBudget takes the price of the model that answered, else of the one that was asked for", () => {
  const prices = [{ alias: { input: 1, output: 1 }, real: { input: 2, output: 2 } }];
  const cost = (model: string | undefined, requested?: string): number | undefined => {
    const budget = new ModelBudget({ prices });
    budget.add(usage(1_000_000, 0, model === undefined ? {} : { model }), requested);
    return budget.costUsd;
  };
  assert.equal(cost("real", "alias"), 2);
  assert.equal(cost("unknown", "alias"), 1);
  assert.equal(cost(undefined, "alias"), 1);
  assert.equal(cost("unknown"), undefined);
});

Deno.test("findPrice() knows dated versions, takes no other model for one, and the user's table first", () => {
  const input = (model: string): number | undefined => findPrice([OPENAI_PRICES], model)?.input;
  assert.equal(input("gpt-6.1-sol"), 2);
  assert.equal(input("gpt-6.1-sol-2026-09-29"), 2);
  assert.equal(input("gpt-5.5-pro"), 30);
  assert.equal(input("gpt-5.5-mini"), undefined);
  assert.equal(input("gpt-6.1-solo"), undefined);
  const own = { "gpt-*": { input: 9, output: 9 }, "gpt-6*": { input: 8, output: 8 } };
  assert.equal(findPrice([own, OPENAI_PRICES], "gpt-6.1-sol")?.input, 8);
  assert.equal(findPrice([own, OPENAI_PRICES], "gpt-5.5")?.input, 9);
  assert.equal(findPrice([own], "claude"), undefined);
  assert.equal(findPrice([{}], "constructor"), undefined);
});

Deno.test("costOf() prices what came from a cache, what went to one, and long prompts", () => {
  const price = { input: 10, cachedInput: 1, cacheWrite: 20, cacheWriteHour: 40, output: 100 };
  const million = 1_000_000;
  const of = (facts: AnswerUsage, extra = {}): number => costOf({ ...price, ...extra }, facts);
  assert.equal(of(usage(million, million)), 110);
  assert.equal(of(usage(million, 0, { cachedTokens: million })), 1);
  assert.equal(of(usage(million, 0, { cacheWriteTokens: million })), 20);
  assert.equal(of(usage(million, 0, { cacheWriteTokens: million, cacheWriteHourTokens: million })), 40);
  assert.equal(costOf({ input: 10, output: 1 }, usage(million, 0, { cachedTokens: million })), 10);
  const long = { overTokens: million - 1, inputFactor: 2, outputFactor: 3 };
  assert.equal(of(usage(million, million), { long }), 320);
  assert.equal(of(usage(million - 1, 0), { long: { ...long, overTokens: million - 1 } }), 9.99999);
  assert.ok(of(usage(0, 0, { cachedTokens: 5, cacheWriteTokens: 5 })) >= 0);
});

Deno.test("formatUsd() shows cents, and what is less than a cent", () => {
  assert.deepEqual([0, 0.0004, 0.25, 1, 12.345].map(formatUsd), [
    "$0.00",
    "$0.0004",
    "$0.25",
    "$1.00",
    "$12.35",
  ]);
});
