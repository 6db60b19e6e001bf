/**
 * What the guest's root takes from Debian's packages: a whole base system, or only the tools that Alpine's
 * minimal root lacks, with the C library that they need beside Alpine's own.
 *
 * @module
 */
import { join } from "node:path";
import { exists } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { type Deb, extractDebs, fetchDebs } from "./debs.ts";

/** How packages are fetched. */
export interface DebianOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onBytes: (done: number, total: number) => void;
}

const BASE_PACKAGES = [
  ..."base-files base-passwd bash bsdutils ca-certificates coreutils curl dash debianutils diffutils file"
    .split(" "),
  ..."findutils gawk git grep gzip hostname iproute2 less libc-bin mount ncurses-base patch procps sed tar"
    .split(" "),
  ..."util-linux xz-utils".split(" "),
];

// libc-bin: the C.UTF-8 locale, which programs built for glibc ask for
const EXTRA_PACKAGES = ["bash-static", "ca-certificates", "git", "libc-bin"];

/**
 * Dependencies that Alpine's root can do without: they serve package scripts, manuals and git's Perl parts, or
 * would replace programs that Alpine has.
 */
const NOT_ON_ALPINE =
  /^(dpkg|tar|perl.*|libperl.*|liberror-perl|debconf|git-man|openssl|gcc-\d+-base|debianutils|cdebconf|libdebconf.*)$/;

const UNNEEDED = [
  "usr/share/doc",
  "usr/share/man",
  "usr/share/info",
  "usr/share/locale",
  "usr/share/lintian",
];

/** Builds a Debian base in the empty folder `root`; returns the Debian version. @throws {ImageError} */
export async function buildDebianRoot(
  cacheDir: string,
  root: string,
  options: DebianOptions,
): Promise<string> {
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await Deno.mkdir(join(root, "usr", name), { recursive: true });
    await Deno.symlink(`usr/${name}`, join(root, name));
  }
  for (const name of ["dev", "proc", "sys", "run", "root", "etc"]) {
    await Deno.mkdir(join(root, name), { recursive: true });
  }
  await extractDebs(await fetchDebs(cacheDir, BASE_PACKAGES, options), root, options.signal);
  const files: Readonly<Record<string, string>> = {
    passwd: await Deno.readTextFile(join(root, "usr/share/base-passwd/passwd.master")),
    group: await Deno.readTextFile(join(root, "usr/share/base-passwd/group.master")),
    shadow: "root:*:20000:0:99999:7:::\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    profile: "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    shells: "/bin/sh\n/bin/bash\n",
  };
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeTextFile(join(root, "etc", name), content);
  }
  await linkIfMissing(root, "usr/bin/awk", "gawk");
  await finish(root);
  return (await Deno.readTextFile(join(root, "etc/debian_version"))).trim();
}

/** Adds packages, with what they need beside a base system, to a root. @throws {ImageError} */
export async function addDebs(
  cacheDir: string,
  root: string,
  packages: readonly string[],
  options: DebianOptions,
): Promise<void> {
  if (packages.length === 0) return;
  const debs = await fetchDebs(cacheDir, packages, options);
  await extractDebs(debs.filter((deb: Deb) => !NOT_ON_ALPINE.test(deb.name)), root, options.signal);
  await removeUnneeded(root);
}

/** Adds bash, git and the CA certificates to an Alpine root. @throws {ImageError} */
export async function addToolsToAlpine(
  cacheDir: string,
  root: string,
  options: DebianOptions,
): Promise<void> {
  await addDebs(cacheDir, root, EXTRA_PACKAGES, options);
  await linkIfMissing(
    root,
    "bin/bash",
    await exists(join(root, "bin/bash-static")) ? "bash-static" : "/usr/bin/bash-static",
  );
  await finish(root);
}

async function linkIfMissing(root: string, path: string, target: string): Promise<void> {
  if (!await exists(join(root, path))) await Deno.symlink(target, join(root, path));
}

/** What the packages' scripts would have done that matters here. */
async function finish(root: string): Promise<void> {
  await writeCertificates(root);
  await removeUnneeded(root);
}

async function removeUnneeded(root: string): Promise<void> {
  for (const path of UNNEEDED) {
    if (await exists(join(root, path))) await Deno.remove(join(root, path), { recursive: true });
  }
}

async function writeCertificates(root: string): Promise<void> {
  const source = join(root, "usr/share/ca-certificates/mozilla");
  const certificates: string[] = [];
  const names: string[] = [];
  for await (const entry of Deno.readDir(source)) if (entry.name.endsWith(".crt")) names.push(entry.name);
  for (const name of names.sort()) {
    certificates.push((await Deno.readTextFile(join(source, name))).trimEnd() + "\n");
  }
  const folder = join(root, "etc/ssl/certs");
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(join(folder, "ca-certificates.crt"), certificates.join(""));
}

/** Unpacks a root file system's tarball. */
export async function unpackTarball(tarball: string, root: string, signal?: AbortSignal): Promise<void> {
  await runCommand(["tar", "-C", root, "-xpf", tarball, "--numeric-owner"], { signal });
}
