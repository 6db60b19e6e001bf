/**
 * `sandbox images list|build|remove`: the images that VMs boot from.
 *
 * @module
 */

import { buildImages, deleteImages, type ListedImage, overviewImages } from "../../local/images.ts";
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

/** Runs the command and gives its exit code. */
export async function images(args: readonly string[]): Promise<number> {
  const [verb, ...rest] = args;
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
      throw new UsageError("sandbox images takes list, build or remove");
  }
}
