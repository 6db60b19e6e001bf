/**
 * How many tokens and how much money a task may use, and what it has used, as the model's own answers count it.
 *
 * @module
 */

import type { TokenUsage } from "../../agent-images/agent_spec.ts";
import type { PriceTable } from "../../agent-images/model_price.ts";
import { costOf, findPrice } from "./model_prices.ts";
import type { AnswerUsage } from "./usage_reader.ts";

const MAX_SHOWN_NAME = 80;

/** Limits of a {@linkcode ModelBudget}; without them it only counts. */
export interface BudgetLimits {
  /** input and output together */
  readonly maxTokens?: number | undefined;
  readonly maxCostUsd?: number | undefined;
  /** what models cost; the first table that knows a model counts (default: nothing is known) */
  readonly prices?: readonly PriceTable[];
}

/** USD for people. */
export function formatUsd(usd: number): string {
  return `$${usd === 0 || usd >= 1 ? usd.toFixed(2) : Number(usd.toPrecision(3))}`;
}

/** What to do about a model that has no price. */
export function priceMissing(model: string): string {
  const name = model.slice(0, MAX_SHOWN_NAME);
  return `No price is known for model "${name}", so --max-cost cannot be kept: give its prices with --prices FILE, ` +
    `or use --max-tokens`;
}

/** Counts against the limits. */
export class ModelBudget {
  readonly #maxTokens: number;
  readonly #maxCostUsd: number;
  readonly #prices: readonly PriceTable[];
  #used: TokenUsage | undefined;
  #costUsd = 0;
  #hasUnpriced = false;
  #refusals = 0;

  constructor(limits: BudgetLimits = {}) {
    this.#maxTokens = limits.maxTokens ?? Infinity;
    this.#maxCostUsd = limits.maxCostUsd ?? Infinity;
    this.#prices = limits.prices ?? [];
  }

  /** what was used so far; `undefined` before the first answer that said so */
  get used(): TokenUsage | undefined {
    return this.#used;
  }

  /** what that cost; `undefined`: nothing was used yet, or a model whose price is not known */
  get costUsd(): number | undefined {
    return this.#used === undefined || this.#hasUnpriced ? undefined : this.#costUsd;
  }

  /** The limit was reached and a request was refused because of it. */
  get wasExceeded(): boolean {
    return this.#refusals > 0;
  }

  /** whether a request's model has to be known, and its price, before it is sent on */
  get limitsCost(): boolean {
    return this.#maxCostUsd < Infinity;
  }

  /** An answer is over; `requested` is the model that was asked for, if that is known. */
  add(usage: AnswerUsage, requested?: string): void {
    this.#used = {
      inputTokens: (this.#used?.inputTokens ?? 0) + usage.inputTokens,
      cachedTokens: (this.#used?.cachedTokens ?? 0) + usage.cachedTokens,
      outputTokens: (this.#used?.outputTokens ?? 0) + usage.outputTokens,
    };
    // The provider knows best what answered; an alias that only the request has may be what the table knows.
    const price = [usage.model, requested].map((model) =>
      model === undefined ? undefined : findPrice(this.#prices, model)
    ).find((found) => found !== undefined);
    if (price === undefined) this.#hasUnpriced = true;
    else this.#costUsd += costOf(price, usage);
  }

  /**
   * Whether another request may be made; else the sentence that says why not. A request in progress is let be, so that the
   * limit is passed by what the last ones use.
   */
  refusal(): string | undefined {
    const total = (this.#used?.inputTokens ?? 0) + (this.#used?.outputTokens ?? 0);
    const reason = total >= this.#maxTokens
      ? `The task's budget of ${this.#maxTokens} tokens is used up (${total} were used)`
      : this.#costUsd >= this.#maxCostUsd
      ? `The task's budget of ${formatUsd(this.#maxCostUsd)} is used up (${
        formatUsd(this.#costUsd)
      } were spent)`
      : undefined;
    if (reason !== undefined) this.#refusals++;
    return reason;
  }

  /** Whether a model may be asked; else the sentence that says why not. */
  priceRefusal(model: string | undefined): string | undefined {
    if (!this.limitsCost) return undefined;
    if (model === undefined) return "Request names no model, so --max-cost cannot be kept";
    return findPrice(this.#prices, model) === undefined ? priceMissing(model) : undefined;
  }
}
