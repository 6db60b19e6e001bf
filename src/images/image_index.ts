/**
 * The list of prepared images, one small file per agent. Paths in it are relative to the cache folder, so that
 * it holds wherever the folder is mounted.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { exists, removeAll } from "./build_once.ts";

/** One prepared image. */
export interface IndexEntry {
  readonly kernelPath: string;
  readonly kernelVersion: string;
  readonly rootfsPath: string;
  readonly agentVersion: string;
  readonly imageKey: string;
  readonly base: "alpine" | "debian";
  readonly baseVersion: string;
}

interface IndexFile {
  /** inputs of the image that was prepared last */
  readonly latest: string;
  readonly images: Readonly<Record<string, IndexEntry>>;
}

function indexPath(cacheDir: string, agent: string): string {
  return join(cacheDir, "images", `${agent}.json`);
}

/** The image made from `inputs` (default: the latest), if its files are there. */
export async function findImage(
  cacheDir: string,
  agent: string,
  inputs?: string,
): Promise<IndexEntry | undefined> {
  const index = await readIndex(cacheDir, agent);
  const entry = index?.images[inputs ?? index.latest];
  if (index === undefined || entry === undefined) return undefined;
  for (const path of [entry.kernelPath, entry.rootfsPath]) {
    if (!await exists(join(cacheDir, path))) return undefined;
  }
  // What a server with the same cache takes is what was asked for last
  if (inputs !== undefined && index.latest !== inputs) {
    await writeIndex(cacheDir, agent, { ...index, latest: inputs });
  }
  return entry;
}

/** How many images of one agent are kept; each takes half a gigabyte. */
const KEPT_IMAGES = 3;

/** Adds an image and makes it the latest; the oldest beyond the kept ones are deleted. */
export async function recordImage(
  cacheDir: string,
  agent: string,
  inputs: string,
  entry: IndexEntry,
): Promise<void> {
  const { [inputs]: _replaced, ...others } = (await readIndex(cacheDir, agent))?.images ?? {};
  const all = [...Object.entries(others), [inputs, entry] as const];
  const kept = all.slice(-KEPT_IMAGES);
  await writeIndex(cacheDir, agent, { latest: inputs, images: Object.fromEntries(kept) });
  for (const [, old] of all.slice(0, -KEPT_IMAGES)) {
    const used = kept.some(([, other]) => other.rootfsPath === old.rootfsPath);
    // A guest that runs on it keeps its open file
    if (!used) await removeAll(join(cacheDir, dirname(old.rootfsPath)));
  }
}

async function readIndex(cacheDir: string, agent: string): Promise<IndexFile | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(indexPath(cacheDir, agent))) as IndexFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

async function writeIndex(cacheDir: string, agent: string, index: IndexFile): Promise<void> {
  const path = indexPath(cacheDir, agent);
  await Deno.mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${Deno.pid}.partial`;
  await Deno.writeTextFile(temporary, JSON.stringify(index, null, 2) + "\n");
  await Deno.rename(temporary, path);
}
