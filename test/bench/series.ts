/**
 * Measured values of one thing, and what they come to.
 *
 * @module
 */

/** Median and spread of a series. */
export interface Series {
  readonly median: number;
  /** the smallest and largest value */
  readonly min: number;
  readonly max: number;
  /** number of values */
  readonly count: number;
}

/** Sums up values; there is at least one. */
export function summarise(values: readonly number[]): Series {
  if (values.length === 0) throw new RangeError("Cannot sum up no values");
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): number => sorted[Math.min(Math.max(index, 0), sorted.length - 1)] ?? 0;
  const middle = (sorted.length - 1) / 2;
  const median = (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2;
  return { median, min: at(0), max: at(sorted.length - 1), count: sorted.length };
}

/**
 * Measures contenders in turn, `rounds` times each: what else the machine does meets all of them alike. The first round
 * does not count: it fills caches.
 */
export async function alternate(
  contenders: Readonly<Record<string, () => Promise<number>>>,
  rounds: number,
  onStep: (text: string) => void = () => {},
): Promise<Record<string, number[]>> {
  const values: Record<string, number[]> = Object.fromEntries(
    Object.keys(contenders).map((name) => [name, []]),
  );
  for (let round = 0; round <= rounds; round++) {
    onStep(`round ${round} of ${rounds}`);
    for (const [name, measure] of Object.entries(contenders)) {
      const value = await measure();
      if (round > 0) values[name]?.push(value);
    }
  }
  return values;
}
