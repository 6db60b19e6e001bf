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

/** An image that is there, and whether it is the one that its agent was run with last. */
export interface ListedImage extends IndexEntry {
  readonly agent: string;
  readonly isLatest: boolean;
  /** disk space that it takes, in bytes: holes do not count */
  readonly sizeBytes: number;
  readonly builtAt: Date;
}

/** All images, by agent, the latest first. */
export async function listImages(cacheDir: string): Promise<ListedImage[]> {
  const listed: ListedImage[] = [];
  for (const agent of await agentsWithImages(cacheDir)) {
    const index = await readIndex(cacheDir, agent);
    for (const [inputs, entry] of Object.entries(index?.images ?? {}).reverse()) {
      const disk = await Deno.stat(join(cacheDir, entry.rootfsPath)).catch(() => undefined);
      if (disk === undefined) continue; // deleted by hand
      const sizeBytes = (disk.blocks ?? disk.size / 512) * 512;
      const builtAt = disk.mtime ?? new Date(0);
      listed.push({ ...entry, agent, isLatest: inputs === index?.latest, sizeBytes, builtAt });
    }
  }
  return listed;
}

/** Deletes all images of an agent; returns how many there were. A VM that runs on one keeps its open file. */
export async function removeImages(cacheDir: string, agent: string): Promise<number> {
  const entries = Object.values((await readIndex(cacheDir, agent))?.images ?? {});
  // First the list: what is half deleted is no longer in it.
  await removeAll(indexPath(cacheDir, agent));
  for (const entry of entries) await removeAll(join(cacheDir, dirname(entry.rootfsPath)));
  return entries.length;
}

async function agentsWithImages(cacheDir: string): Promise<string[]> {
  try {
    const names = await Array.fromAsync(Deno.readDir(join(cacheDir, "images")), ({ name }) => name);
    return names.filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length))
      .sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
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
