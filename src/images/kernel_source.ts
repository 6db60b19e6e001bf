/**
 * The guest kernel's source: Debian's source package where the machine's mirror has it, else kernel.org's release,
 * pinned by its checksum.
 *
 * @module
 */
import { basename, join } from "node:path";
import { exists } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { fetchDebs } from "./debs.ts";
import { fileDigest } from "./digest.ts";
import { downloadFile } from "./download.ts";
import { ImageError } from "./image_error.ts";

/** Debian's package; the tree inside has the same name. */
export const KERNEL_PACKAGE = "linux-source-6.12";

/** A release of kernel.org. */
export interface KernelRelease {
  readonly version: string;
  readonly url: string;
  readonly sha256: string;
}

/** What is built where Debian's package cannot be had. */
export const KERNEL_RELEASE: KernelRelease = {
  version: "6.12.62",
  url: "https://cdn.kernel.org/pub/linux/kernel/v6.x/linux-6.12.62.tar.xz",
  sha256: "13e2c685ac8fab5dd992dd105732554dae514aef350c2a8c7418e7b74eb62c13",
};

/** How a source is fetched. */
export interface KernelSourceOptions {
  readonly signal: AbortSignal | undefined;
  readonly onBytes: (done: number, total: number) => void;
}

/**
 * Unpacks the source into `work`; the tree's folder and the version it is.
 *
 * @throws {ImageError} if no source can be had, or one is not what it claims to be
 */
export async function unpackKernelSource(
  work: string,
  cacheDir: string,
  options: KernelSourceOptions,
): Promise<{ tree: string; version: string }> {
  await Deno.mkdir(work, { recursive: true });
  const { signal } = options;
  const installed = `/usr/src/${KERNEL_PACKAGE}.tar.xz`;
  if (await exists(installed)) {
    await runCommand(["tar", "-C", work, "-xJf", installed], { signal });
    const version = await runCommand(["dpkg-query", "-W", "-f", "${Version}", KERNEL_PACKAGE]);
    return { tree: join(work, KERNEL_PACKAGE), version: version.trim() };
  }
  const deb = await debianSource(cacheDir, options);
  if (deb === undefined) return await unpackRelease(work, cacheDir, KERNEL_RELEASE, options);
  const script =
    'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO "./usr/src/$3.tar.xz" | tar -C "$2" -xJ';
  await runCommand(["bash", "-c", script, "unpack", deb.path, work, KERNEL_PACKAGE], { signal });
  return { tree: join(work, KERNEL_PACKAGE), version: deb.version };
}

/** Debian's package, or undefined where no mirror has it. */
async function debianSource(
  cacheDir: string,
  options: KernelSourceOptions,
): Promise<{ path: string; version: string } | undefined> {
  try {
    const [deb] = await fetchDebs(cacheDir, [KERNEL_PACKAGE], { ...options, withoutDependencies: true });
    return deb;
  } catch (error) {
    if (error instanceof ImageError && (error.code === "unreachable" || error.code === "command_failed")) {
      return undefined;
    }
    throw error;
  }
}

/** Downloads a release into the cache, checks it and unpacks it. @throws {ImageError} */
export async function unpackRelease(
  work: string,
  cacheDir: string,
  release: KernelRelease,
  options: KernelSourceOptions,
): Promise<{ tree: string; version: string }> {
  const archive = join(cacheDir, "kernel-source", basename(new URL(release.url).pathname));
  if (!await exists(archive)) {
    await Deno.mkdir(join(cacheDir, "kernel-source"), { recursive: true });
    const partial = `${archive}.${Deno.pid}.partial`;
    try {
      await downloadFile(release.url, partial, options);
      await checkRelease(partial, release);
      await Deno.rename(partial, archive);
    } catch (error) {
      await Deno.remove(partial).catch(() => {}); // it may not exist yet
      throw explain(error, release);
    }
  }
  await runCommand(["tar", "-C", work, "-xJf", archive], { signal: options.signal });
  return { tree: join(work, basename(archive, ".tar.xz")), version: release.version };
}

async function checkRelease(path: string, release: KernelRelease): Promise<void> {
  const sha256 = await fileDigest(path, "sha256");
  if (sha256 === release.sha256) return;
  throw new ImageError(
    "bad_checksum",
    `"${release.url}" is not Linux ${release.version}: its SHA-256 is ${sha256}, not ${release.sha256}`,
    "Try again from another network: this one changes what it downloads",
  );
}

function explain(error: unknown, release: KernelRelease): unknown {
  if (!(error instanceof ImageError) || error.code !== "unreachable") return error;
  return new ImageError(
    "unreachable",
    `Neither the package mirror's ${KERNEL_PACKAGE} nor "${release.url}" can be had`,
    "Use Debian 12 or 13 with its security archive among the apt sources, or a network that reaches kernel.org",
    { cause: error },
  );
}
