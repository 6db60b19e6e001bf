/**
 * What a benchmark says: a table for people or JSON, and a file that keeps it.
 *
 * @module
 */

import { dirname } from "node:path";
import type { Series } from "./series.ts";

/** A contender's figures in one row; ratio of the medians to the first row's where that is what counts. */
export interface Row {
  readonly what: string;
  readonly unit: string;
  /** where it was measured (default: on this machine) */
  readonly where?: "emulated host";
  /** the product's own name first, then the peers' */
  readonly contenders: Readonly<Record<string, Series>>;
  /** what the ratio of ours to the first peer's has to be, or a limit on our own median */
  readonly goal?: {
    readonly ratio?: { readonly atLeast?: number; readonly atMost?: number };
    readonly atMost?: number;
  };
}

/** A benchmark's result. */
export interface Report {
  readonly name: string;
  readonly rows: readonly Row[];
  /** anything else worth keeping */
  readonly notes?: Readonly<Record<string, unknown>>;
}

/** Name of the product's own column. */
export const OURS = "paddock";

/** Whether a row's goal is met; undefined without a goal, or without the peer that it needs. */
export function isMet(row: Row): boolean | undefined {
  const { goal } = row;
  const ours = row.contenders[OURS]?.median;
  if (goal === undefined || ours === undefined) return undefined;
  if (goal.atMost !== undefined) return ours <= goal.atMost;
  const ratio = ratioOf(row);
  if (ratio === undefined || goal.ratio === undefined) return undefined;
  return ratio >= (goal.ratio.atLeast ?? -Infinity) && ratio <= (goal.ratio.atMost ?? Infinity);
}

/** Ours to the first peer's, by medians. */
export function ratioOf(row: Row): number | undefined {
  const ours = row.contenders[OURS];
  const peer = Object.entries(row.contenders).find(([name]) => name !== OURS)?.[1];
  return ours === undefined || peer === undefined ? undefined : ours.median / peer.median;
}

/** Prints the report and writes it to `path`. */
export async function publish(report: Report, options: { json: boolean; path: string }): Promise<void> {
  const rows = report.rows.map((row) => ({ ...row, ratio: ratioOf(row), met: isMet(row) }));
  const date = new Date().toISOString().slice(0, 10);
  const text = JSON.stringify({ ...report, rows, machine: machine(), date }, null, 2);
  await Deno.mkdir(dirname(options.path), { recursive: true });
  await Deno.writeTextFile(options.path, `${text}\n`);
  if (options.json) return console.log(text);
  const { cpu, cpus, kernel } = machine();
  console.log(`bench ${report.name} on ${cpu}, ${cpus} CPUs, Linux ${kernel}, ${date}`);
  for (const row of rows) {
    const where = row.where === undefined ? "" : `, in the ${row.where}`;
    console.log(`\n${row.what} (${row.unit}${where})`);
    for (const [name, series] of Object.entries(row.contenders)) {
      const { median, min, max, count } = series;
      console.log(
        `  ${name.padEnd(12)} ${figure(median).padStart(10)}   ${figure(min)} to ${
          figure(max)
        }, n = ${count}`,
      );
    }
    if (row.ratio !== undefined) console.log(`  ratio ${row.ratio.toFixed(3)}`);
    if (row.met !== undefined) console.log(`  goal ${goalText(row)}: ${row.met ? "met" : "NOT MET"}`);
  }
  for (const [key, value] of Object.entries(report.notes ?? {})) {
    console.log(`\n${key}: ${JSON.stringify(value)}`);
  }
  console.log(`\nWritten to ${options.path}`);
}

/** A goal in words. */
export function goalText({ goal }: Row): string {
  if (goal?.atMost !== undefined) return `<= ${goal.atMost}`;
  return goal?.ratio?.atLeast !== undefined
    ? `ratio >= ${goal.ratio.atLeast}`
    : `ratio <= ${goal?.ratio?.atMost}`;
}

/** A figure with three digits that count. */
export function figure(value: number): string {
  return value >= 1000 ? Math.round(value).toString() : value.toPrecision(3);
}

function machine(): { cpu: string; cpus: number; kernel: string } {
  const cpu = /^model name\s*:\s*(.*)$/m.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1] ?? "unknown CPU";
  return { cpu, cpus: navigator.hardwareConcurrency, kernel: Deno.osRelease() };
}
