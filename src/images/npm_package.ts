/**
 * Files of npm packages at pinned versions: downloaded from the registry that the machine's npm uses, checked
 * against the pinned hash, and unpacked; no install script runs.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { exists, removeAll, withLock } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { contentKey, fileDigest } from "./digest.ts";
import { ImageError } from "./image_error.ts";

/** A package at one version; the shape of `AgentPackage`. */
export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  /** `sha512-…` */
  readonly integrity: string;
  readonly files: readonly { readonly from: string; readonly to: string; readonly mode: number }[];
}

/** How a package is fetched. */
export interface NpmOptions {
  readonly signal?: AbortSignal | undefined;
  /** called now and then with the bytes that have arrived */
  readonly onBytes?: (done: number) => void;
}

/** npm's codes for a registry that does not answer. */
const UNREACHABLE = /^(ECONN|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ENET|EHOST|ERR_SOCKET|EIDLETIMEOUT|FETCH_ERROR)/;

/** How often the growing download is looked at, in `ms`. */
const PROGRESS_MS = 500;

/** Downloads a package into the cache and returns its tarball's path. @throws {ImageError} */
export async function fetchNpmPackage(
  cacheDir: string,
  wanted: NpmPackage,
  options: NpmOptions = {},
): Promise<string> {
  const folder = join(cacheDir, "npm");
  const path = join(folder, `${contentKey(wanted.name, wanted.version, wanted.integrity)}.tgz`);
  if (await exists(path)) return path;
  return await withLock(`${path}.lock`, options.signal, async () => {
    if (await exists(path)) return path;
    const work = `${path}.partial`;
    await removeAll(work);
    await Deno.mkdir(work, { recursive: true });
    try {
      const tarball = await pack(work, wanted, options);
      await checkIntegrity(tarball, wanted);
      await Deno.rename(tarball, path);
      return path;
    } finally {
      await removeAll(work);
    }
  });
}

/** Puts a package's files into `root`. @throws {ImageError} when the package lacks one of them */
export async function unpackNpmFiles(
  tarball: string,
  wanted: NpmPackage,
  root: string,
  signal?: AbortSignal,
): Promise<void> {
  const work = `${root}.unpack`;
  await removeAll(work);
  await Deno.mkdir(work);
  try {
    const members = wanted.files.map((file) => `package/${file.from}`);
    await runCommand(["tar", "-C", work, "-xzf", tarball, "--no-same-owner", ...members], { signal });
    for (const file of wanted.files) {
      const to = join(root, file.to);
      await Deno.mkdir(dirname(to), { recursive: true });
      await Deno.rename(join(work, "package", file.from), to);
      await Deno.chmod(to, file.mode);
    }
  } finally {
    await removeAll(work);
  }
}

async function pack(work: string, wanted: NpmPackage, options: NpmOptions): Promise<string> {
  // A cache of its own: its size shows the progress, and nothing of it is kept
  const npmCache = join(work, "cache");
  const timer = setInterval(
    () => void folderSize(npmCache).then((bytes) => options.onBytes?.(bytes)),
    PROGRESS_MS,
  );
  try {
    const flags = ["--cache", npmCache, "--fetch-retries", "1", "--ignore-scripts", "--loglevel", "error"];
    const name = `${wanted.name}@${wanted.version}`;
    await runCommand(["npm", "pack", name, "--pack-destination", work, ...flags], {
      cwd: work,
      signal: options.signal,
    });
  } catch (error) {
    throw explainNpm(error, `${wanted.name}@${wanted.version}`);
  } finally {
    clearInterval(timer);
  }
  for await (const entry of Deno.readDir(work)) {
    if (entry.isFile && entry.name.endsWith(".tgz")) return join(work, entry.name);
  }
  throw new ImageError(
    "command_failed",
    `npm pack left no tarball of ${wanted.name}`,
    "Check the npm installation of this machine",
  );
}

/** What npm's failure means, as an error that says what to do; `name` is what it was to fetch. */
export function explainNpm(error: unknown, name: string): unknown {
  if (!(error instanceof ImageError) || error.code !== "command_failed") return error;
  const code = /npm error code (\S+)/i.exec(error.output)?.[1] ?? "";
  if (/^(E404|ETARGET|ENOVERSIONS)$/.test(code)) {
    return new ImageError(
      "unreachable",
      `The npm registry has no ${name}`,
      "Check `npm config get registry`",
      { cause: error },
    );
  }
  if (UNREACHABLE.test(code)) {
    const hint = "Check the network, and `npm config get registry`";
    return new ImageError(
      "unreachable",
      `The npm registry does not answer (${code}, for ${name})`,
      hint,
      { cause: error },
    );
  }
  if (code === "EINTEGRITY") return badChecksum(name, error);
  return error;
}

async function checkIntegrity(tarball: string, wanted: NpmPackage): Promise<void> {
  const actual = `sha512-${await fileDigest(tarball, "sha512", "base64")}`;
  if (actual !== wanted.integrity) throw badChecksum(`${wanted.name}@${wanted.version}`);
}

function badChecksum(name: string, cause?: unknown): ImageError {
  const hint =
    "The registry serves a file other than the published one: do not use it, check `npm config get registry`";
  return new ImageError("bad_checksum", `The tarball of ${name} does not have the pinned SHA-512`, hint, {
    cause,
  });
}

async function folderSize(path: string): Promise<number> {
  let bytes = 0;
  try {
    for await (const entry of Deno.readDir(path)) {
      const child = join(path, entry.name);
      bytes += entry.isDirectory ? await folderSize(child) : (await Deno.stat(child)).size;
    }
  } catch {
    // npm moves its files while they are counted; the count is only shown
  }
  return bytes;
}
