/**
 * README's table of benchmarks, from the files that the last runs wrote.
 *
 * @module
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { figure, goalText, isMet, OURS, ratioOf, type Row } from "./report.ts";

const README = fileURLToPath(new URL("../../README.md", import.meta.url));
const BEGIN = "<!-- deno task bench table -->";
const END = "<!-- end of the table -->";
/** In the order of the table. */
const NAMES = ["exits", "memory", "boot", "block", "net"];

/** What `publish` writes. */
interface Result {
  readonly name: string;
  readonly rows: readonly Row[];
  readonly machine: { readonly cpu: string; readonly cpus: number; readonly kernel: string };
  readonly date: string;
}

/** There is nothing to put into the table, or no place for it. */
export class TableError extends Error {
  override readonly name = "TableError";
}

/** Puts the results in `folder` between README's markers. @throws {TableError} */
export async function writeTable(folder: string): Promise<void> {
  const results: Result[] = [];
  for (const name of NAMES) {
    try {
      results.push(JSON.parse(await Deno.readTextFile(join(folder, `${name}.json`))));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      console.error(`bench table: no result of ${name}`);
    }
  }
  if (results.length === 0) throw new TableError(`No results in "${folder}"`);
  const readme = await Deno.readTextFile(README);
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (begin < 0 || end < begin) throw new TableError(`README has no "${BEGIN}" followed by "${END}"`);
  const table = tableOf(results);
  await Deno.writeTextFile(
    README,
    `${readme.slice(0, begin + BEGIN.length)}\n${table}\n${readme.slice(end)}`,
  );
}

/** The results as Markdown. */
export function tableOf(results: readonly Result[]): string {
  const lines = ["| measured | unit | Paddock | peer | ratio | goal |", "|---|---|---|---|---|---|"];
  for (const { rows } of results) lines.push(...rows.map(lineOf));
  const machines = new Set(
    results.map(({ machine: { cpu, cpus, kernel }, date }) =>
      `${cpu}, ${cpus} CPUs, Linux ${kernel}, ${date}`
    ),
  );
  return `\n${lines.join("\n")}\n\nMeasured on ${[...machines].join("; ")}. *E*: in the emulated host.\n`;
}

function lineOf(row: Row): string {
  const { what, unit, where, contenders } = row;
  const ours = contenders[OURS];
  const peers = Object.entries(contenders).filter(([name]) => name !== OURS)
    .map(([name, { median }]) => `${figure(median)} (${name})`);
  const ratio = ratioOf(row)?.toFixed(2) ?? "";
  const met = isMet(row);
  const goal = met === undefined ? "" : `${goalText(row)}: ${met ? "met" : "not met"}`;
  const place = where === undefined ? "" : " *E*";
  const value = ours === undefined ? "" : `${figure(ours.median)}`;
  return `| ${what}${place} | ${unit} | ${value} | ${peers.join(", ")} | ${ratio} | ${goal} |`;
}
