/**
 * Packages from Alpine's own repository, without apk: the index is checked with the keys in the root, each
 * package with the index; packages are unpacked, their scripts never run.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash, createPublicKey, verify } from "node:crypto";
import { dirname, join } from "node:path";
import { ALPINE_CDN } from "./alpine.ts";
import { type Apk, parseApkIndex, resolveApks } from "./apk_index.ts";
import { gunzipMember, tarFiles, untrusted } from "./apk_segments.ts";
import { exists, removeAll, withLock } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { downloadFile } from "./download.ts";
import { ImageError } from "./image_error.ts";

/** How packages are fetched. */
export interface ApkOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (done: number, total: number) => void;
  /** base URL (default: Alpine's CDN) */
  readonly cdn?: string;
}

// Not ca-certificates: its script would make the bundle, ca-certificates-bundle has it as a file
const WANTED = ["bash", "ca-certificates-bundle", "git"];

/** Longest index that is taken: Alpine's have less than 1 MB. */
const MAX_INDEX_BYTES = 16 * 2 ** 20;

/**
 * Adds bash, git and the CA certificates to an Alpine root; returns the names of the packages that were added,
 * or undefined where the CDN does not answer or has no such release.
 * @throws {ImageError} when what the CDN serves is not what Alpine signed
 */
export async function addAlpinePackages(
  cacheDir: string,
  root: string,
  options: ApkOptions = {},
): Promise<string[] | undefined> {
  const release = await readIfThere(join(root, "etc/alpine-release"));
  const branch = /^\d+\.\d+(?=\.)/.exec(release)?.[0];
  if (branch === undefined) return undefined;
  const repository = `${options.cdn ?? ALPINE_CDN}/v${branch}/main/x86_64`;
  const folder = join(cacheDir, "alpine/apks");
  return await withLock(join(folder, "lock"), options.signal, async () => {
    const signed = await fetchIndex(repository, folder, options);
    if (signed === undefined) return undefined;
    const index = parseApkIndex(await checkIndex(signed, root));
    const installed = await readIfThere(join(root, "lib/apk/db/installed")) ||
      await readIfThere(join(root, "usr/lib/apk/db/installed"));
    const packages = await resolveApks(WANTED, { index, installed: parseApkIndex(installed), root });
    const total = packages.reduce((sum, apk) => sum + apk.sizeBytes, 0);
    let done = 0;
    for (const apk of packages) {
      const onBytes = (bytes: number): void => options.onBytes?.(done + bytes, total);
      const data = await fetchData(apk, repository, folder, { ...options, onBytes });
      await extract(apk, data, { root, folder, signal: options.signal });
      options.onBytes?.(done += apk.sizeBytes, total);
    }
    await linkBash(root);
    return packages.map((apk) => apk.name);
  });
}

async function fetchIndex(
  repository: string,
  folder: string,
  { signal }: ApkOptions,
): Promise<Uint8Array | undefined> {
  const path = join(folder, "index.partial");
  try {
    await downloadFile(`${repository}/APKINDEX.tar.gz`, path, { signal, maxBytes: MAX_INDEX_BYTES });
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof ImageError && error.code === "unreachable") return undefined;
    throw error;
  } finally {
    await removeAll(path);
  }
}

/** Checks the index against the root's keys and returns its text. */
async function checkIndex(bytes: Uint8Array, root: string): Promise<string> {
  const [signature, length] = gunzipMember(bytes, "Alpine's package index");
  const rest = bytes.subarray(length);
  for (const [name, value] of tarFiles(signature)) {
    const match = /^\.SIGN\.(RSA|RSA256)\.([^/]+\.rsa\.pub)$/.exec(name);
    const key = match === null ? "" : await readIfThere(join(root, "etc/apk/keys", match[2] ?? ""));
    if (key === "") continue;
    if (verify(match?.[1] === "RSA" ? "sha1" : "sha256", rest, createPublicKey(key), value)) {
      const index = tarFiles(gunzipMember(rest, "Alpine's package index")[0]).get("APKINDEX");
      if (index !== undefined) return new TextDecoder().decode(index);
    }
  }
  throw untrusted("The package index of Alpine's CDN is not signed with a key of the root file system");
}

/** Returns the data segment of a package, downloading it where the cache has none. */
async function fetchData(
  apk: Apk,
  repository: string,
  folder: string,
  options: ApkOptions,
): Promise<Uint8Array> {
  const file = `${apk.name}-${apk.version}.apk`;
  // The checksum too: branches may build the same version differently
  const path = join(folder, `${Buffer.from(apk.controlSha1, "base64").toString("hex").slice(0, 12)}-${file}`);
  const partial = `${path}.partial`;
  try {
    if (!await exists(path)) {
      const { signal, onBytes } = options;
      const maxBytes = apk.sizeBytes;
      await downloadFile(`${repository}/${file}`, partial, {
        signal,
        maxBytes,
        ...(onBytes ? { onBytes } : {}),
      });
      await Deno.rename(partial, path);
    }
    return checkPackage(apk, await Deno.readFile(path));
  } catch (error) {
    if (error instanceof ImageError && error.code === "bad_checksum") await removeAll(path);
    throw error;
  } finally {
    await removeAll(partial);
  }
}

/** An .apk is three gzip members: signature, control, data. The index vouches for control, control for data. */
function checkPackage(apk: Apk, bytes: Uint8Array): Uint8Array {
  const what = `Alpine's package "${apk.name}"`;
  const start = gunzipMember(bytes, what)[1];
  const [control, length] = gunzipMember(bytes.subarray(start), what);
  const raw = bytes.subarray(start, start + length);
  const data = bytes.subarray(start + length);
  if (createHash("sha1").update(raw).digest("base64") !== apk.controlSha1) {
    throw untrusted(`The control segment of ${what} does not have the checksum in the index`);
  }
  const info = new TextDecoder().decode(tarFiles(control).get(".PKGINFO"));
  const expected = /^datahash = ([0-9a-f]{64})$/m.exec(info)?.[1];
  if (createHash("sha256").update(data).digest("hex") === expected) return data;
  throw untrusted(`The data segment of ${what} does not have the checksum in its control segment`);
}

async function extract(
  apk: Apk,
  data: Uint8Array,
  { root, folder, signal }: { root: string; folder: string; signal: AbortSignal | undefined },
): Promise<void> {
  const path = join(folder, "data.partial");
  try {
    await Deno.writeFile(path, data);
    const names = await runCommand(["tar", "-tzf", path, "--warning=no-unknown-keyword"], { signal });
    await checkNames(apk, names.split("\n").filter((name) => name !== ""), root);
    const flags = ["--numeric-owner", "--keep-directory-symlink", "--warning=no-unknown-keyword"];
    await runCommand(["tar", "-C", root, "-xpzf", path, ...flags], { signal });
  } finally {
    await removeAll(path);
  }
}

/** tar follows the root's own links, and one that is absolute leads into the host. */
async function checkNames(apk: Apk, names: readonly string[], root: string): Promise<void> {
  const realRoot = await Deno.realPath(root);
  const inside = new Set<string>();
  for (const name of names) {
    let parent = name.endsWith("/") ? join(root, name.slice(0, -1)) : dirname(join(root, name));
    let safe = !name.startsWith("/") && !name.split("/").includes("..");
    while (safe && !inside.has(parent) && !await exists(parent)) parent = dirname(parent);
    safe &&= inside.has(parent) || `${await Deno.realPath(parent)}/`.startsWith(`${realRoot}/`);
    if (!safe) throw untrusted(`The package "${apk.name}" has a file outside the root: "${name}"`);
    inside.add(parent);
  }
}

/** /bin/bash is the agent's shell, also on a release whose package has it in /usr/bin. */
async function linkBash(root: string): Promise<void> {
  if (await exists(join(root, "bin/bash")) || !await exists(join(root, "usr/bin/bash"))) return;
  await Deno.symlink("/usr/bin/bash", join(root, "bin/bash"));
}

async function readIfThere(path: string): Promise<string> {
  return await exists(path) ? await Deno.readTextFile(path) : "";
}
