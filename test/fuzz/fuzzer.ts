/**
 * Feeds mutated inputs to a target: seeded, so that a run comes again, and guided by what the target says of each run:
 * an input that made it behave in a new way is mutated further.
 *
 * @module
 */

import { Random } from "../support/random.ts";

/** Code that takes any bytes. */
export interface FuzzTarget {
  readonly name: string;
  /** well-formed inputs, to mutate */
  readonly corpus: readonly Uint8Array<ArrayBuffer>[];
  /** Runs one input; throws if anything happened that must not. Returns a word for how the target behaved. */
  run(input: Uint8Array<ArrayBuffer>): string;
  /** gives back what the target holds */
  close?(): void;
}

/** An input that broke a target. */
export class FuzzFailure extends Error {
  override readonly name = "FuzzFailure";

  constructor(target: string, seed: number, index: number, input: Uint8Array<ArrayBuffer>, cause: unknown) {
    const what = cause instanceof Error ? cause.stack : String(cause);
    super(`${target}: seed ${seed}, input ${index}: ${what}\nagain: --replay ${input.toBase64()}`, { cause });
  }
}

/** What a run came to. */
export interface FuzzReport {
  readonly inputs: number;
  readonly behaviours: number;
  readonly elapsedMs: number;
  readonly slowestMs: number;
}

/** Longest that one input may take, in `ms`. */
const HANG_MS = 2000;
/** Growth of the process that no number of inputs may cause, in bytes. */
const MAX_GROWTH_BYTES = 512 * 1024 * 1024;
const MAX_POOL = 1000;
const MAX_INPUT_BYTES = 64 * 1024;
const INTERESTING = [
  0,
  1,
  2,
  15,
  16,
  17,
  255,
  256,
  4095,
  4096,
  0x7fff,
  0x8000,
  0xffff,
  0x1_0000,
  0x7fff_ffff,
];
const MORE_INTERESTING = [0x8000_0000, 0xffff_fff0, 0xffff_ffff];

/**
 * Runs `count` inputs.
 *
 * @throws {FuzzFailure} for the first one that breaks the target
 */
export function fuzz(
  target: FuzzTarget,
  options: { count: number; seed: number; onProgress?: (done: number) => void },
): FuzzReport {
  const { count, seed, onProgress } = options;
  const random = new Random(seed);
  const pool = [...target.corpus];
  const seen = new Set<string>();
  const rssBefore = Deno.memoryUsage().rss;
  const started = performance.now();
  let slowestMs = 0;
  for (let index = 0; index < count; index++) {
    const input = index < target.corpus.length ? pool[index] : mutate(random, pool);
    if (input === undefined) throw new RangeError(`Target ${target.name} has no corpus`);
    const begun = performance.now();
    let behaviour: string;
    try {
      behaviour = target.run(input);
    } catch (cause) {
      throw new FuzzFailure(target.name, seed, index, input, cause);
    }
    const elapsed = performance.now() - begun;
    slowestMs = Math.max(slowestMs, elapsed);
    if (elapsed > HANG_MS) throw new FuzzFailure(target.name, seed, index, input, `took ${elapsed} ms`);
    if (!seen.has(behaviour)) {
      seen.add(behaviour);
      if (pool.length < MAX_POOL) pool.push(input);
    }
    if (index % 10_000 === 9999) {
      const growth = Deno.memoryUsage().rss - rssBefore;
      if (growth > MAX_GROWTH_BYTES) {
        throw new FuzzFailure(target.name, seed, index, input, `grew by ${growth} bytes`);
      }
      onProgress?.(index + 1);
    }
  }
  return { inputs: count, behaviours: seen.size, elapsedMs: performance.now() - started, slowestMs };
}

function mutate(random: Random, pool: readonly Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> {
  const pick = (): Uint8Array<ArrayBuffer> => pool[random.below(pool.length)] ?? new Uint8Array(1);
  let bytes: Uint8Array<ArrayBuffer> = pick().slice();
  for (let left = 1 + random.below(6); left > 0; left--) bytes = mutateOnce(random, bytes, pick);
  return bytes;
}

function mutateOnce(
  random: Random,
  bytes: Uint8Array<ArrayBuffer>,
  pick: () => Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  const size = bytes.byteLength;
  const at = random.below(Math.max(1, size));
  switch (random.below(8)) {
    case 0:
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
      return bytes;
    case 1:
      bytes[at] = random.below(256);
      return bytes;
    case 2:
      return putNumber(random, bytes, 2);
    case 3:
      return putNumber(random, bytes, 4);
    case 4: {
      // A part of the input moves, or comes twice
      const length = Math.min(1 + random.below(32), size);
      bytes.copyWithin(at, random.below(size), random.below(size) + length);
      return bytes;
    }
    case 5:
      return bytes.slice(
        0,
        Math.max(1, random.below(8) === 0 ? at : size - random.below(Math.min(size, 16))),
      );
    case 6: {
      const other = pick();
      const joined = new Uint8Array(Math.min(MAX_INPUT_BYTES, at + other.byteLength));
      joined.set(bytes.subarray(0, at));
      joined.set(other.subarray(0, joined.byteLength - at), at);
      return joined;
    }
    default:
      return putNumber(random, bytes, 1);
  }
}

function putNumber(
  random: Random,
  bytes: Uint8Array<ArrayBuffer>,
  sizeBytes: number,
): Uint8Array<ArrayBuffer> {
  const values = sizeBytes === 4 ? [...INTERESTING, ...MORE_INTERESTING] : INTERESTING;
  const value = (values[random.below(values.length)] ?? 0) +
    (random.below(4) === 0 ? random.below(3) - 1 : 0);
  const at = random.below(Math.max(1, bytes.byteLength - sizeBytes + 1));
  const bigEndian = random.below(4) === 0;
  for (let index = 0; index < sizeBytes && at + index < bytes.byteLength; index++) {
    const shift = bigEndian ? sizeBytes - 1 - index : index;
    bytes[at + index] = (value >>> (shift * 8)) & 0xff;
  }
  return bytes;
}
