/**
 * The user's own prices of models, which go before those that Paddock knows. In USD for a million tokens:
 *
 *     ["gpt-6.1-sol"]                   # stands for its dated versions, too; "gpt-*" for all that begins so
 *     input = 2
 *     output = 10
 *     cached_input = 0.1                # these may be left out: as input
 *     cache_write = 2.5
 *     cache_write_hour = 4
 *     long = { over_tokens = 272000, input_factor = 2, output_factor = 1.5 }
 *
 * @module
 */

import { join } from "node:path";
import { parse, TomlError } from "smol-toml";
import type { ModelPrice, PriceTable } from "../../agent-images/model_price.ts";
import { configDir } from "../images/paths.ts";
import { LocalError } from "./local_error.ts";

const FILE_NAME = "prices.toml";
const PRICES = ["input", "output", "cached_input", "cache_write", "cache_write_hour"];
const LONG = ["over_tokens", "input_factor", "output_factor"];
const MAX_USD = 1_000_000;

type Table = Readonly<Record<string, unknown>>;

function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** The numbers of a table whose keys must all be known. */
function numbers(table: Table, known: readonly string[], where: string): (key: string) => number | undefined {
  const unknown = Object.keys(table).find((key) => !known.includes(key));
  if (unknown !== undefined) throw new RangeError(`${where}.${unknown} is not known`);
  return (key) => {
    const value = table[key];
    if (value === undefined) return undefined;
    if (typeof value === "number" && value >= 0 && value <= MAX_USD) return value;
    throw new RangeError(`${where}.${key} must be a number from 0 to ${MAX_USD}`);
  };
}

function required(value: number | undefined, what: string): number {
  if (value !== undefined) return value;
  throw new RangeError(`${what} is missing`);
}

function readPrice(name: string, table: unknown): ModelPrice {
  const where = JSON.stringify(name);
  if (!isTable(table)) throw new RangeError(`${where} must be a table with input and output`);
  const { long, ...rest } = table;
  const price = numbers(rest, PRICES, where);
  if (long !== undefined && !isTable(long)) throw new RangeError(`${where}.long must be a table`);
  const ofLong = numbers(long ?? {}, LONG, `${where}.long`);
  return {
    input: required(price("input"), `${where}.input`),
    output: required(price("output"), `${where}.output`),
    cachedInput: price("cached_input"),
    cacheWrite: price("cache_write"),
    cacheWriteHour: price("cache_write_hour"),
    long: long === undefined ? undefined : {
      overTokens: required(ofLong("over_tokens"), `${where}.long.over_tokens`),
      inputFactor: ofLong("input_factor") ?? 1,
      outputFactor: ofLong("output_factor") ?? 1,
    },
  };
}

/** Reads the text of a file with prices. @throws {RangeError} that says what is wrong with it */
export function parsePrices(text: string): PriceTable {
  let tables: Table;
  try {
    tables = parse(text);
  } catch (error) {
    // Its message goes on with a picture of the place, over several lines.
    if (error instanceof TomlError) {
      throw new RangeError(`line ${error.line}: ${error.message.split("\n")[0]}`, { cause: error });
    }
    throw error;
  }
  return Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, readPrice(name, table)]));
}

/**
 * The user's prices; undefined: there are none.
 *
 * @throws {LocalError} for a file that was named and is not there, or that cannot be understood
 */
export async function readPrices(named: string | undefined): Promise<PriceTable | undefined> {
  const path = named ?? join(configDir(), FILE_NAME);
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound && named === undefined) return undefined;
    throw new LocalError("usage", `Cannot read the prices in "${path}"`, { cause });
  }
  try {
    return parsePrices(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new LocalError("usage", `Cannot use the prices in "${path}": ${error.message}`, { cause: error });
  }
}
