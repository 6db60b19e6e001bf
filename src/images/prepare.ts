/**
 * Makes what a session boots from, a kernel and a root disk with one agent in it, or finds it in the cache.
 *
 * @module
 */
import { join, relative } from "node:path";
import { addDebs, addToolsToAlpine, buildDebianRoot, unpackTarball } from "./debian_root.ts";
import { type AlpineTarball, downloadAlpine, givenAlpine } from "./alpine.ts";
import { addAlpinePackages } from "./apk.ts";
import { buildOnce, exists, removeAll } from "./build_once.ts";
import { currentSpec } from "./chosen_version.ts";
import { contentKey, folderKey } from "./digest.ts";
import { makeExt4 } from "./ext4.ts";
import { prepareGuestInit } from "./guest_init.ts";
import { completeRoot } from "./guest_root.ts";
import { requireTools } from "./host_tools.ts";
import { ImageError } from "./image_error.ts";
import { findImage, type IndexEntry, listImages, recordImage } from "./image_index.ts";
import { type GuestKernel, kernelKey, prepareKernel } from "./kernel.ts";
import { prepareMonitor } from "./monitor_code.ts";
import { fetchNpmPackage, type NpmPackage, unpackNpmFiles } from "./npm_package.ts";
import { installNpmTree, type NpmTree, npmTreeKey } from "./npm_tree.ts";
import { cacheDir, sourceDir } from "./paths.ts";
import type { OnProgress } from "./progress.ts";

export type { OnProgress, ProgressEvent } from "./progress.ts";
export { ImageError } from "./image_error.ts";
export type { IndexEntry } from "./image_index.ts";

/** What a session boots from. */
export interface PreparedImage {
  readonly kernelPath: string;
  readonly kernelVersion: string;
  readonly rootfsPath: string;
  readonly rootfsFormat: "raw";
  readonly agentVersion: string;
  readonly imageKey: string;
  readonly base: "alpine" | "debian";
  readonly baseVersion: string;
}

/** The parts of an `AgentSpec` that an image is made from. */
export interface ImageSpec {
  readonly name: string;
  readonly title: string;
  readonly version: string;
  readonly npm: readonly NpmPackage[];
  readonly npmTree?: NpmTree;
  readonly debs: { readonly alpine: readonly string[]; readonly debian: readonly string[] };
  readonly textFiles: readonly { readonly to: string; readonly mode: number; readonly content: string }[];
}

/** How an image is prepared. */
export interface PrepareOptions {
  /** Alpine's root file system as a file (default: PADDOCK_ALPINE_ROOTFS, else the pinned release from the CDN) */
  readonly alpineRootfs?: string;
  readonly onProgress: OnProgress;
  readonly signal?: AbortSignal;
}

/** Changes whenever the way of building changes, so that older images are not taken for newer ones. */
const BUILDER_VERSION = "4";

/** Prepares the image of one agent; returns at once when it is in the cache. @throws {ImageError} */
export async function prepareImage(pinned: ImageSpec, options: PrepareOptions): Promise<PreparedImage> {
  const spec = await currentSpec(cacheDir(), pinned);
  const readOnly = Deno.env.get("PADDOCK_CACHE_READONLY") === "1";
  const given = options.alpineRootfs ?? Deno.env.get("PADDOCK_ALPINE_ROOTFS");
  const alpine = given === undefined || given === "" || readOnly ? undefined : await givenAlpine(given);
  const inputs = readOnly ? undefined : await inputsKey(spec, alpine);
  await prepareMonitor(options.signal);
  const found = await findImage(cacheDir(), spec.name, inputs);
  if (found !== undefined) return imageOf(found);
  if (inputs === undefined) {
    throw new ImageError(
      "not_prepared",
      `The image of ${spec.title} is not in the cache`,
      `Run "deno task sandbox run ${spec.name}" on the machine that owns the cache`,
    );
  }
  const entry = await build(spec, alpine, inputs, options);
  await recordImage(cacheDir(), spec.name, inputs, entry);
  return imageOf(entry);
}

/** An image that is there and not in use. */
export interface Candidate {
  readonly inputs: string;
  readonly entry: IndexEntry;
}

/** Builds the image of exactly this specification, without using it. @throws {ImageError} */
export async function buildCandidate(spec: ImageSpec, options: PrepareOptions): Promise<Candidate> {
  const given = options.alpineRootfs ?? Deno.env.get("PADDOCK_ALPINE_ROOTFS");
  const alpine = given === undefined || given === "" ? undefined : await givenAlpine(given);
  const inputs = await inputsKey(spec, alpine);
  return { inputs, entry: await build(spec, alpine, inputs, options) };
}

/** Puts a candidate in use. */
export async function adoptCandidate(agent: string, { inputs, entry }: Candidate): Promise<void> {
  await recordImage(cacheDir(), agent, inputs, entry);
}

/** Deletes a candidate's disk, unless it was in use before. */
export async function dropCandidate(agent: string, { entry }: Candidate): Promise<void> {
  const images = await listImages(cacheDir());
  if (images.some((image) => image.agent === agent && image.imageKey === entry.imageKey)) return;
  await removeAll(join(cacheDir(), "images", entry.imageKey));
}

async function inputsKey(spec: ImageSpec, alpine: AlpineTarball | undefined): Promise<string> {
  const init = await folderKey(join(sourceDir(), "guest-module/init"));
  const content = JSON.stringify([spec.npm, spec.textFiles, spec.debs]);
  const tree = spec.npmTree === undefined ? "" : await npmTreeKey(spec.npmTree);
  return contentKey(BUILDER_VERSION, await kernelKey(), init, content, tree, alpine?.sha256 ?? "any base");
}

/** An entry of the index with paths of this machine. */
export function imageOf(entry: IndexEntry): PreparedImage {
  const cache = cacheDir();
  return {
    ...entry,
    rootfsFormat: "raw",
    kernelPath: join(cache, entry.kernelPath),
    rootfsPath: join(cache, entry.rootfsPath),
  };
}

type Step = <T>(name: string, message: string, body: (name: string) => Promise<T>) => Promise<T>;

function stepper(onProgress: OnProgress, count: number): Step {
  let index = 0;
  return async (step, message, body) => {
    const started = performance.now();
    onProgress({ type: "step", step, message, index: ++index, count });
    const result = await body(step);
    onProgress({ type: "done", step, ms: Math.round(performance.now() - started) });
    return result;
  };
}

async function build(
  spec: ImageSpec,
  given: AlpineTarball | undefined,
  inputs: string,
  options: PrepareOptions,
): Promise<IndexEntry> {
  const { signal, onProgress } = options;
  // Both before the long work: a missing program is known now, not in six minutes
  await requireTools("kernel", "image");
  if (Deno.uid() !== 0) {
    throw new ImageError(
      "command_failed",
      "Only root can build the image: its files belong to root and to the guest's user",
      "Run the command with sudo",
    );
  }
  const step = stepper(onProgress, given === undefined ? 4 : 3);
  const bytes = (name: string) => (done: number, total?: number): void =>
    onProgress({
      type: "progress",
      step: name,
      done,
      ...(total === undefined ? {} : { total }),
      unit: "bytes",
    });
  const tarballs = await step(
    "agent",
    `Downloading ${spec.title}`,
    (name) =>
      Promise.all(
        spec.npm.map((wanted) => fetchNpmPackage(cacheDir(), wanted, { signal, onBytes: bytes(name) })),
      ),
  );
  const alpine = given ??
    await step("base", "Downloading Alpine", (name) => alpineOrNone({ ...options, onBytes: bytes(name) }));
  const kernel = await step(
    "kernel",
    "Building the guest kernel (about six minutes, once)",
    (name) => prepareKernel({ onProgress, signal, step: name }),
  );
  return await step(
    "disk",
    "Building the root disk",
    (name) => buildDisk({ spec, tarballs, alpine, kernel, inputs, signal, onBytes: bytes(name) }),
  );
}

async function alpineOrNone(
  options: PrepareOptions & { onBytes: (done: number, total: number) => void },
): Promise<AlpineTarball | undefined> {
  try {
    return await downloadAlpine(cacheDir(), options);
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== "unreachable") throw error;
    const message =
      "Alpine's CDN cannot be reached: the guest gets a Debian base from this machine's package mirror instead" +
      " (give Alpine with --alpine-rootfs FILE)";
    options.onProgress({ type: "notice", message });
    return undefined;
  }
}

interface DiskParts {
  readonly spec: ImageSpec;
  readonly tarballs: readonly string[];
  readonly alpine: AlpineTarball | undefined;
  readonly kernel: GuestKernel;
  readonly inputs: string;
  readonly signal: AbortSignal | undefined;
  readonly onBytes: (done: number, total?: number) => void;
}

async function buildDisk(parts: DiskParts): Promise<IndexEntry> {
  const { spec, alpine, signal } = parts;
  const initPath = await prepareGuestInit(signal);
  const imageKey = contentKey(parts.inputs, alpine?.sha256 ?? "debian");
  const folder = join(cacheDir(), "images", imageKey);
  await buildOnce(folder, async (temporary) => {
    const root = join(temporary, "root");
    await Deno.mkdir(root);
    const version = await buildBase(root, parts);
    for (const [index, wanted] of spec.npm.entries()) {
      await unpackNpmFiles(parts.tarballs[index] ?? "", wanted, root, signal);
    }
    if (spec.npmTree !== undefined) await installNpmTree(cacheDir(), spec.npmTree, root, signal);
    await addDebs(cacheDir(), root, spec.debs[alpine === undefined ? "debian" : "alpine"], parts);
    await completeRoot(root, {
      initPath,
      powerModulePath: parts.kernel.powerModulePath,
      textFiles: spec.textFiles,
    });
    await makeExt4(root, join(temporary, "rootfs.img"), signal);
    await Deno.remove(root, { recursive: true });
    await Deno.writeTextFile(join(temporary, "base-version"), version + "\n");
  }, signal);
  return {
    kernelPath: relative(cacheDir(), parts.kernel.vmlinuxPath),
    kernelVersion: parts.kernel.version,
    rootfsPath: relative(cacheDir(), join(folder, "rootfs.img")),
    agentVersion: spec.version,
    imageKey,
    base: alpine === undefined ? "debian" : "alpine",
    baseVersion: (await Deno.readTextFile(join(folder, "base-version"))).trim(),
  };
}

async function buildBase(root: string, { alpine, signal, onBytes }: DiskParts): Promise<string> {
  if (alpine === undefined) return await buildDebianRoot(cacheDir(), root, { signal, onBytes });
  await unpackTarball(alpine.path, root, signal);
  const added = await addAlpinePackages(cacheDir(), root, { signal, onBytes });
  if (added === undefined) await addToolsToAlpine(cacheDir(), root, { signal, onBytes });
  const release = join(root, "etc/alpine-release");
  return await exists(release) ? (await Deno.readTextFile(release)).trim() : alpine.version;
}
