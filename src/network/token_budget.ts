/**
 * How many tokens a task may use, and how many it has used, as the model's own answers count them.
 *
 * @module
 */

import type { TokenUsage } from "../../agent-images/agent_spec.ts";

/** Counts tokens against a limit. */
export class TokenBudget {
  readonly maxTokens: number;
  #used: TokenUsage | undefined;
  #refusals = 0;

  /** Without a limit it only counts. */
  constructor(maxTokens = Infinity) {
    this.maxTokens = maxTokens;
  }

  /** what was used so far; `undefined` before the first answer that said so */
  get used(): TokenUsage | undefined {
    return this.#used;
  }

  /** The limit was reached and a request was refused because of it. */
  get wasExceeded(): boolean {
    return this.#refusals > 0;
  }

  /** An answer is over. */
  add(usage: TokenUsage): void {
    this.#used = {
      inputTokens: (this.#used?.inputTokens ?? 0) + usage.inputTokens,
      cachedTokens: (this.#used?.cachedTokens ?? 0) + usage.cachedTokens,
      outputTokens: (this.#used?.outputTokens ?? 0) + usage.outputTokens,
    };
  }

  /**
   * Whether another request may be made; else the sentence that says why not. A request in progress is let be, so that the
   * limit is passed by what the last ones use.
   */
  refusal(): string | undefined {
    const total = (this.#used?.inputTokens ?? 0) + (this.#used?.outputTokens ?? 0);
    if (total < this.maxTokens) return undefined;
    this.#refusals++;
    return `The task's budget of ${this.maxTokens} tokens is used up (${total} were used)`;
  }
}
