/**
 * The version of an agent that `images update` chose: a file in the cache, used in place of the one that its specification
 * names for as long as the specification names that one.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { removeAll } from "./build_once.ts";
import type { NpmPackage } from "./npm_package.ts";
import type { ImageSpec } from "./prepare.ts";

/** What was chosen. */
export interface VersionChoice {
  /** version of the specification that this was chosen over: a newer specification takes its place */
  readonly pinned: string;
  readonly version: string;
  readonly npm: readonly NpmPackage[];
  /** folder with the lock of the tree of packages, below the cache (undefined: the agent has no tree) */
  readonly treeFolder?: string;
}

function choicePath(cacheDir: string, agent: string): string {
  return join(cacheDir, "versions", `${agent}.json`);
}

/** Folder below the cache for the lock of a chosen version. */
export function choiceFolder(agent: string, version: string): string {
  return join("versions", agent, version);
}

/** The specification with the version that was chosen. */
export function withChoice(cacheDir: string, spec: ImageSpec, choice: VersionChoice): ImageSpec {
  const { version, npm, treeFolder } = choice;
  if (spec.npmTree === undefined || treeFolder === undefined) return { ...spec, version, npm };
  return { ...spec, version, npm, npmTree: { ...spec.npmTree, folder: join(cacheDir, treeFolder) } };
}

/** The specification as it is to be used: with the chosen version, if there is one. */
export async function currentSpec(cacheDir: string, spec: ImageSpec): Promise<ImageSpec> {
  let text: string;
  try {
    text = await Deno.readTextFile(choicePath(cacheDir, spec.name));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return spec;
    throw error;
  }
  const choice = JSON.parse(text) as VersionChoice;
  return choice.pinned === spec.version ? withChoice(cacheDir, spec, choice) : spec;
}

/** Notes the choice. */
export async function writeChoice(cacheDir: string, agent: string, choice: VersionChoice): Promise<void> {
  const path = choicePath(cacheDir, agent);
  await Deno.mkdir(dirname(path), { recursive: true });
  const draft = `${path}.${Deno.pid}.partial`;
  await Deno.writeTextFile(draft, JSON.stringify(choice, null, 2) + "\n");
  await Deno.rename(draft, path);
}

/** Forgets the choice: the specification's own version is used again. */
export async function removeChoice(cacheDir: string, agent: string): Promise<void> {
  await removeAll(choicePath(cacheDir, agent));
}
