/**
 * A patch, file by file.
 *
 * @module
 */

import { h } from "./dom.ts";

/** Lines of one file that are shown; of a larger one the patch itself has the rest. */
const MAX_LINES = 2000;

interface FileDiff {
  readonly name: string;
  readonly lines: string[];
  added: number;
  removed: number;
}

/** The files of a patch as git makes them. */
export function splitPatch(patch: string): readonly FileDiff[] {
  const files: FileDiff[] = [];
  for (const line of patch.split("\n")) {
    const name = /^diff --git a\/.* b\/(.*)$/.exec(line)?.[1];
    if (name !== undefined) files.push({ name, lines: [], added: 0, removed: 0 });
    const file = files.at(-1);
    if (file === undefined) continue;
    file.lines.push(line);
    if (line.startsWith("+") && !line.startsWith("+++")) file.added += 1;
    if (line.startsWith("-") && !line.startsWith("---")) file.removed += 1;
  }
  return files;
}

function lineClass(line: string): string {
  if (line.startsWith("@@")) return "hunk";
  if (/^(\+\+\+|---|diff |index |new file|deleted file|old mode|new mode|similarity|rename)/.test(line)) {
    return "head";
  }
  return line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "same";
}

/** The patch as elements. */
export function diffView(patch: string): HTMLElement {
  const files = splitPatch(patch);
  if (files.length === 0) return h("p", { class: "empty" }, "Nothing was changed.");
  return h(
    "div",
    { class: "diff" },
    ...files.map(({ name, lines, added, removed }) =>
      h(
        "details",
        { open: true },
        h(
          "summary",
          {},
          h("code", {}, name),
          h("span", { class: "added" }, ` +${added}`),
          h("span", { class: "removed" }, ` −${removed}`),
        ),
        h(
          "pre",
          { tabindex: "0" },
          ...lines.slice(0, MAX_LINES).map((line) => h("span", { class: lineClass(line) }, `${line}\n`)),
          lines.length > MAX_LINES ? `… ${lines.length - MAX_LINES} more lines` : undefined,
        ),
      )
    ),
  );
}
