/**
 * Alpine's minimal root file system: the pinned release from the CDN, or a file that the user gives.
 *
 * @module
 */
import { basename, join } from "node:path";
import { exists, removeAll, withLock } from "./build_once.ts";
import { fileDigest } from "./digest.ts";
import { downloadFile } from "./download.ts";
import { ImageError } from "./image_error.ts";

/** A tarball whose content is known. */
export interface AlpineTarball {
  readonly path: string;
  readonly version: string;
  readonly sha256: string;
}

/** The release that is used where the user names none. */
export const ALPINE_VERSION = "3.23.2";

/** Where Alpine publishes. */
export const ALPINE_CDN = "https://dl-cdn.alpinelinux.org/alpine";

/** SHA-256 of the x86_64 minirootfs of known releases. */
const KNOWN: Readonly<Record<string, string>> = {
  "3.23.2": "b50bf42e519420ca2be48dd0efa22aa087c708d0602b67d413406533bef9dab5",
  "3.20.3": "d4e6fd67dcf75e40c451560ac7265166c2b72a0f38ddc9aae756a7de3d1efa0c",
};

const DOWNLOAD_HINT = "Check the network, or give a downloaded file with --alpine-rootfs FILE";

/** How the CDN is reached. */
export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes?: (done: number, total: number) => void;
  /** base URL (default: Alpine's CDN) */
  readonly cdn?: string;
}

/** Checks a tarball that the user gave. @throws {ImageError} when it is missing, or is not the release that its name claims */
export async function givenAlpine(path: string): Promise<AlpineTarball> {
  if (!await exists(path)) {
    throw new ImageError(
      "file_missing",
      `There is no Alpine root file system at "${path}"`,
      "Check --alpine-rootfs, or PADDOCK_ALPINE_ROOTFS",
    );
  }
  const sha256 = await fileDigest(path, "sha256");
  const version = /^alpine-minirootfs-(\d+\.\d+\.\d+)-x86_64\.tar\.gz$/.exec(basename(path))?.[1];
  checkKnown(path, version, sha256);
  const known = Object.entries(KNOWN).find(([, sum]) => sum === sha256)?.[0];
  return { path, sha256, version: known ?? version ?? "unknown" };
}

/** Downloads the pinned release into the cache. @throws {ImageError} `unreachable` when the CDN does not answer */
export async function downloadAlpine(
  cacheDir: string,
  options: DownloadOptions = {},
): Promise<AlpineTarball> {
  const name = `alpine-minirootfs-${ALPINE_VERSION}-x86_64.tar.gz`;
  const path = join(cacheDir, "alpine", name);
  return await withLock(`${path}.lock`, options.signal, async () => {
    if (await exists(path)) return await givenAlpine(path);
    const branch = ALPINE_VERSION.split(".").slice(0, 2).join(".");
    const url = `${options.cdn ?? ALPINE_CDN}/v${branch}/releases/x86_64/${name}`;
    const partial = `${path}.partial`;
    try {
      await downloadFile(url, partial, { ...options, hint: DOWNLOAD_HINT });
      checkKnown(url, ALPINE_VERSION, await fileDigest(partial, "sha256"));
      await Deno.rename(partial, path);
    } finally {
      await removeAll(partial);
    }
    return await givenAlpine(path);
  });
}

function checkKnown(where: string, version: string | undefined, sha256: string): void {
  const expected = version === undefined ? undefined : KNOWN[version];
  if (expected === undefined || expected === sha256) return;
  throw new ImageError(
    "bad_checksum",
    `"${where}" is not Alpine ${version}: its SHA-256 is ${sha256}, not ${expected}`,
    "Do not use this file; get it again from https://alpinelinux.org/downloads",
  );
}
