/**
 * Debian packages without touching the host's package state: apt resolves against an empty package database
 * of our own and downloads into the cache; packages are unpacked, their scripts never run.
 *
 * @module
 */
import { join } from "node:path";
import { exists, withLock } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { ImageError } from "./image_error.ts";

/** A downloaded package. */
export interface Deb {
  readonly name: string;
  readonly version: string;
  readonly path: string;
}

/** How packages are resolved. */
export interface DebOptions {
  readonly signal?: AbortSignal | undefined;
  /** take only the named packages, not what they depend on */
  readonly withoutDependencies?: boolean;
  /** called with the bytes that are there and the bytes that are wanted */
  readonly onBytes?: (done: number, total: number) => void;
}

/** How old the package lists may be before they are fetched again, in `ms`. */
const LISTS_MAX_AGE_MS = 24 * 3600 * 1000;

/** Resolves `packages` with all they depend on, downloads them, and returns them. @throws {ImageError} */
export async function fetchDebs(
  cacheDir: string,
  packages: readonly string[],
  options: DebOptions = {},
): Promise<Deb[]> {
  const aptDir = join(cacheDir, "apt");
  return await withLock(join(aptDir, "lock"), options.signal, async () => {
    await updateLists(aptDir, LISTS_MAX_AGE_MS, options.signal);
    try {
      return await download(aptDir, packages, options);
    } catch (error) {
      // A mirror drops superseded versions: lists that are a day old may name what is gone
      if (!(error instanceof ImageError) || error.code !== "unreachable") throw error;
      await updateLists(aptDir, 0, options.signal);
      return await download(aptDir, packages, options);
    }
  });
}

/** Unpacks packages into `root`, keeping the links of a merged /usr. */
export async function extractDebs(debs: readonly Deb[], root: string, signal?: AbortSignal): Promise<void> {
  for (const deb of debs) {
    // Not dpkg-deb -x: a package's ./lib folder would replace the link lib -> usr/lib
    const script =
      'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -C "$2" -x -p --keep-directory-symlink';
    await runCommand(["bash", "-c", script, "extract", deb.path, root], { signal });
  }
}

function aptOptions(aptDir: string): string[] {
  const settings = {
    "Dir::State::status": `${aptDir}/status`,
    "Dir::State::lists": `${aptDir}/lists`,
    "Dir::Cache": aptDir,
    "Dir::Cache::archives": `${aptDir}/archives`,
    // The cache may lie in a home that apt's own unprivileged user cannot enter
    "APT::Sandbox::User": "root",
    "APT::Install-Recommends": "false",
    "APT::Get::List-Cleanup": "false",
    "Acquire::Languages": "none",
    "Acquire::Retries": "2",
    "Acquire::http::Timeout": "20",
    "Debug::NoLocking": "true",
  };
  return Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
}

async function updateLists(aptDir: string, maxAgeMs: number, signal: AbortSignal | undefined): Promise<void> {
  const stamp = join(aptDir, "updated");
  if (await exists(stamp)) {
    const age = Date.now() - ((await Deno.stat(stamp)).mtime?.getTime() ?? 0);
    if (age < maxAgeMs) return;
  }
  await Deno.mkdir(join(aptDir, "lists/partial"), { recursive: true });
  await Deno.mkdir(join(aptDir, "archives/partial"), { recursive: true });
  await Deno.mkdir(join(aptDir, "debs"), { recursive: true });
  await Deno.writeTextFile(join(aptDir, "status"), "");
  await apt(["apt-get", ...aptOptions(aptDir), "-q", "-o", "APT::Update::Error-Mode=any", "update"], signal);
  await Deno.writeTextFile(stamp, "");
}

async function download(aptDir: string, packages: readonly string[], options: DebOptions): Promise<Deb[]> {
  const install = options.withoutDependencies
    ? ["apt-get", ...aptOptions(aptDir), "download", "--print-uris", "-qq", ...packages]
    : ["apt-get", ...aptOptions(aptDir), "-qq", "-y", "--print-uris", "install", ...packages];
  const wanted = parsePrintUris(await apt(install, options.signal));
  const total = wanted.reduce((sum, entry) => sum + entry.sizeBytes, 0);
  // Not apt's own archives folder: apt leaves out of its list what lies there
  const archives = join(aptDir, "debs");
  const missing: UriLine[] = [];
  for (const entry of wanted) if (!await exists(join(archives, entry.fileName))) missing.push(entry);
  let done = total - missing.reduce((sum, entry) => sum + entry.sizeBytes, 0);
  options.onBytes?.(done, total);
  if (missing.length > 0) {
    const named = missing.map((entry) => `${entry.name}=${entry.version}`);
    // download checks each file against the signed lists and leaves it in the working folder
    const onLine = (line: string): void => {
      const got = /^Get:\d+ .* \[([\d.,]+) ?([kM]?B)\]/.exec(line);
      if (got !== null) options.onBytes?.(done += bytesOf(got[1] ?? "0", got[2] ?? "B"), total);
    };
    const partial = join(archives, "fetching");
    await Deno.mkdir(partial, { recursive: true });
    await apt(
      ["apt-get", ...aptOptions(aptDir), "-q", "download", ...named],
      options.signal,
      partial,
      onLine,
    );
    for (const entry of missing) {
      await Deno.rename(join(partial, entry.fileName), join(archives, entry.fileName));
    }
  }
  options.onBytes?.(total, total);
  return wanted.map((entry) => ({
    name: entry.name,
    version: entry.version,
    path: join(archives, entry.fileName),
  }));
}

function bytesOf(number: string, unit: string): number {
  return Number(number.replaceAll(",", "")) * (unit === "MB" ? 1e6 : unit === "kB" ? 1e3 : 1);
}

interface UriLine {
  readonly fileName: string;
  readonly sizeBytes: number;
  readonly name: string;
  readonly version: string;
}

/** Reads the lines `'URI' FILE SIZE HASH` that apt prints. */
export function parsePrintUris(text: string): UriLine[] {
  const entries: UriLine[] = [];
  for (const line of text.split("\n")) {
    const match = /^'[^']+' (([^_ ]+)_([^_ ]+)_[^_ ]+\.deb) (\d+)/.exec(line);
    if (match === null) continue;
    const [, fileName = "", name = "", version = "", size = "0"] = match;
    entries.push({ fileName, name, version: decodeURIComponent(version), sizeBytes: Number(size) });
  }
  return entries;
}

async function apt(
  argv: readonly string[],
  signal: AbortSignal | undefined,
  cwd?: string,
  onLine?: (line: string) => void,
): Promise<string> {
  const env = { ...Deno.env.toObject(), LC_ALL: "C.UTF-8", DEBIAN_FRONTEND: "noninteractive" };
  try {
    return await runCommand(argv, { env, signal, ...(cwd ? { cwd } : {}), ...(onLine ? { onLine } : {}) });
  } catch (error) {
    if (!(error instanceof ImageError) || error.code !== "command_failed") throw error;
    const unknown = /Unable to locate package (\S+)|Package '?(\S+?)'? has no installation candidate/.exec(
      error.output,
    );
    if (unknown !== null) {
      const name = unknown[1] ?? unknown[2] ?? "";
      throw new ImageError(
        "unreachable",
        `The package mirror has no package "${name}"`,
        "Check the apt sources of this machine",
        { cause: error },
      );
    }
    if (
      /Could not (resolve|connect)|Failed to fetch|Unable to connect|Connection (failed|refused|timed out)/i
        .test(error.output)
    ) {
      throw new ImageError(
        "unreachable",
        `The package mirror does not answer:\n${error.message}`,
        "Check the network and the apt sources of this machine (apt-get update must work)",
        { cause: error },
      );
    }
    throw error;
  }
}
