/**
 * What a model's tokens cost. Data: each provider has its table, and users can bring their own.
 *
 * @module
 */

/** Prices of one model, in USD for a million tokens. */
export interface ModelPrice {
  readonly input: number;
  readonly output: number;
  /** input that came from a cache (default: as `input`) */
  readonly cachedInput?: number | undefined;
  /** input that went to a cache (default: as `input`) */
  readonly cacheWrite?: number | undefined;
  /** input that went to a cache for an hour (default: as `cacheWrite`) */
  readonly cacheWriteHour?: number | undefined;
  /** prompts that are longer cost more, all of their tokens and those of their answers */
  readonly long?: {
    readonly overTokens: number;
    readonly inputFactor: number;
    readonly outputFactor: number;
  } | undefined;
}

/**
 * Prices by model name. A name stands for its dated versions, too (`gpt-6-sol` for `gpt-6-sol-2026-09-22`), and for
 * everything that begins with it when it ends in `*`.
 */
export type PriceTable = Readonly<Record<string, ModelPrice>>;
