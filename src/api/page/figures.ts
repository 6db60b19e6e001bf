/**
 * Graphs of what the server uses, from its own figures.
 *
 * @module
 */

import { fill, h } from "./dom.ts";
import { ask, Refusal } from "./service.ts";

const POINTS = 60;
const PAUSE_MS = 2000;
const MIB = 1024 * 1024;

/** What is shown: names of metrics with labels, their unit, and how to write a value. */
const GRAPHS: readonly { title: string; pattern: RegExp; shown: (value: number) => string }[] = [
  { title: "VMs", pattern: /^paddock_vms\{/, shown: (value) => `${value}` },
  {
    title: "VM memory",
    pattern: /^paddock_vm_memory_bytes\{/,
    shown: (value) => `${Math.round(value / MIB)} MiB`,
  },
  {
    title: "Server memory",
    pattern: /^paddock_server_memory_bytes\{kind="resident"/,
    shown: (value) => `${Math.round(value / MIB)} MiB`,
  },
  { title: "Tasks that wait", pattern: /^paddock_tasks\{state="queued"/, shown: (value) => `${value}` },
];

/** The sum of all lines of a text of metrics that fit. */
export function sumOf(text: string, pattern: RegExp): number {
  return text.split("\n").filter((line) => pattern.test(line))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

/** The points of a line in a box of 100 by 30. */
export function linePoints(values: readonly number[]): string {
  const max = Math.max(1, ...values);
  return values.map((value, at) =>
    `${((POINTS - values.length + at) * 100 / (POINTS - 1)).toFixed(1)},${(29 - value * 28 / max).toFixed(1)}`
  ).join(" ");
}

function graph(values: readonly number[], label: string): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const line = document.createElementNS(space, "polyline");
  line.setAttribute("points", linePoints(values));
  svg.append(line);
  return svg;
}

/** Draws them into an element until the signal. */
export async function showFigures(into: Element, signal: AbortSignal): Promise<void> {
  const series = GRAPHS.map((): number[] => []);
  while (!signal.aborted) {
    try {
      const text = await (await ask("/metrics", { signal })).text();
      fill(
        into,
        ...GRAPHS.map(({ title, pattern, shown }, index) => {
          const values = series[index] ?? [];
          const value = sumOf(text, pattern);
          // A line has two ends
          values.push(...values.length === 0 ? [value, value] : [value]);
          if (values.length > POINTS) values.shift();
          const now = shown(values.at(-1) ?? 0);
          return h(
            "figure",
            {},
            h("figcaption", {}, title, h("b", {}, now)),
            graph(values, `${title}: ${now}`),
          );
        }),
      );
    } catch (error) {
      if (signal.aborted) return;
      // A token without the right to it, or a server that does not say
      if (error instanceof Refusal) return fill(into);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
