/**
 * `sandbox images list|build|update|remove`: the images that VMs boot from.
 *
 * @module
 */

import { parseArgs } from "node:util";
import {
  buildImages,
  changeVersion,
  deleteImages,
  type ListedImage,
  overviewImages,
} from "../../local/images.ts";
import { untilInterrupted } from "../interrupt.ts";
import { progressOnStderr } from "../progress_display.ts";
import { formatBytes } from "../quantities.ts";
import { formatAge, renderTable } from "../table.ts";
import { UsageError } from "../usage_error.ts";

/** Lines about the images, for people. */
export function renderImages(images: readonly ListedImage[], now: Date): string[] {
  if (images.length === 0) return ["There are no images yet: the first run of an agent builds its own"];
  const rows = images.map((image) => [
    image.agent,
    image.agentVersion,
    `${image.base} ${image.baseVersion}`,
    image.kernelVersion,
    formatBytes(image.sizeBytes),
    formatAge(image.builtAt, now),
    image.isLatest ? "in use" : "older",
  ]);
  return renderTable(["AGENT", "VERSION", "BASE", "KERNEL", "SIZE", "AGE", "STATE"], rows);
}

async function build(names: readonly string[]): Promise<void> {
  const progress = progressOnStderr();
  using interrupt = untilInterrupted(() => progress.line("Stopping"));
  try {
    await buildImages(names, { onProgress: (event) => progress.show(event), signal: interrupt.signal });
  } finally {
    progress.clear();
  }
}

/** What `images update` is asked for. */
export interface UpdateArguments {
  /** agents (none: all that have an image) */
  readonly agents: readonly string[];
  readonly version: string | undefined;
  readonly toPinned: boolean;
}

/** Reads the words behind `images update`. */
export function parseUpdateArguments(args: readonly string[]): UpdateArguments {
  const options = { to: { type: "string" }, pinned: { type: "boolean", default: false } } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  if (values.to !== undefined && (values.pinned || positionals.length !== 1)) {
    throw new UsageError("--to takes a version of one agent: sandbox images update codex --to 1.2.3");
  }
  return { agents: positionals, version: values.to, toPinned: values.pinned };
}

async function update(args: readonly string[]): Promise<void> {
  const { agents, version, toPinned } = parseUpdateArguments(args);
  const built = (await overviewImages()).map(({ agent }) => agent);
  const progress = progressOnStderr();
  using interrupt = untilInterrupted(() => progress.line("Stopping"));
  const { signal } = interrupt;
  try {
    for (const agent of new Set(agents.length === 0 ? built : agents)) {
      const options = { version, toPinned, signal, onProgress: progress.show.bind(progress) };
      const { from, to } = await changeVersion(agent, options);
      progress.clear();
      if (to === null) console.log(`${agent} has no versions of its own: there is nothing to update`);
      else console.log(from === to ? `${agent} is at ${to} already` : `${agent}: ${from} is now ${to}`);
    }
  } finally {
    progress.clear();
  }
}

/** Runs the command and gives its exit code. */
export async function images(args: readonly string[]): Promise<number> {
  const [verb, ...rest] = args;
  if (verb === "update") {
    await update(rest);
    return 0;
  }
  const option = rest.find((word) => word.startsWith("-") && !(verb === "list" && word === "--json"));
  if (option !== undefined) throw new UsageError(`Unknown option "${option}"`);
  switch (verb) {
    case "list": {
      const all = await overviewImages();
      if (rest.includes("--json")) console.log(JSON.stringify(all, null, 2));
      else for (const line of renderImages(all, new Date())) console.log(line);
      return 0;
    }
    case "build":
      if (rest.length === 0) throw new UsageError("An agent is needed: sandbox images build codex");
      await build(rest);
      return 0;
    case "remove":
      if (rest.length === 0) throw new UsageError("An agent is needed: sandbox images remove codex");
      for (const [agent, count] of await deleteImages(rest)) {
        console.log(count === 0 ? `${agent} has no images` : `${agent}: ${count} deleted`);
      }
      return 0;
    default:
      throw new UsageError("sandbox images takes list, build, update or remove");
  }
}
