/**
 * The agents and their images, as the command line shows and manages them.
 *
 * @module
 */

import { type ListedImage, listImages, removeImages } from "../images/image_index.ts";
import { currentSpec } from "../images/chosen_version.ts";
import { cacheDir } from "../images/paths.ts";
import { prepareImage } from "../images/prepare.ts";
import type { OnProgress } from "../images/progress.ts";
import { AGENT_NAMES, findAgent } from "../session/agents.ts";
import { LocalError } from "./local_error.ts";
import { type ImageUpdate, pinImage, updateImage, type UpdateOptions } from "./update_image.ts";

export type { ListedImage } from "../images/image_index.ts";

/** One agent, as it is listed. */
export interface AgentOverview {
  readonly name: string;
  readonly title: string;
  readonly version: string;
  /** guest RAM where the user says nothing, in `MiB` */
  readonly memoryMib: number;
  /** host environment variable with the key of its model's API (null: it uses no model) */
  readonly keyVariable: string | null;
  /** there is an image of this version */
  readonly isBuilt: boolean;
}

function requireAgent(name: string): NonNullable<ReturnType<typeof findAgent>> {
  const spec = findAgent(name);
  if (spec !== undefined) return spec;
  throw new LocalError("usage", `There is no agent "${name}"; known: ${AGENT_NAMES.join(", ")}`);
}

/** All agents. */
export async function overviewAgents(): Promise<AgentOverview[]> {
  const images = await listImages(cacheDir());
  const agents = await Promise.all(
    AGENT_NAMES.map(requireAgent).map(async (spec) => {
      const { version } = await currentSpec(cacheDir(), spec);
      return { ...spec, version };
    }),
  );
  return agents.map(({ name, title, version, memoryMib, model }) => ({
    name,
    title,
    version,
    memoryMib,
    keyVariable: model?.keyVariable ?? null,
    isBuilt: images.some((image) => image.agent === name && image.agentVersion === version),
  }));
}

/** All images. */
export function overviewImages(): Promise<ListedImage[]> {
  return listImages(cacheDir());
}

/** Builds the images that are missing; all names are checked before the first is built. */
export async function buildImages(
  agents: readonly string[],
  options: { readonly onProgress: OnProgress; readonly signal: AbortSignal },
): Promise<void> {
  for (const spec of agents.map(requireAgent)) await prepareImage(spec, options);
}

/** Deletes the images of these agents; gives how many of each there were. */
export async function deleteImages(agents: readonly string[]): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const { name } of agents.map(requireAgent)) counts.set(name, await removeImages(cacheDir(), name));
  return counts;
}

/** Brings an agent's image to another version, or back to the pinned one. */
export async function changeVersion(
  agent: string,
  options: UpdateOptions & { readonly toPinned: boolean },
): Promise<ImageUpdate> {
  const spec = requireAgent(agent);
  return await (options.toPinned ? pinImage : updateImage)(spec, options);
}
