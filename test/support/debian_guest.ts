/**
 * A stock Debian for boot tests: a root disk with systemd, and Debian's cloud kernels with the initrds that Debian's own
 * initramfs-tools make, which takes root and a chroot.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { buildOnce } from "../../src/images/build_once.ts";
import { runCommand } from "../../src/images/command.ts";
import { type Deb, extractDebs, fetchDebs } from "../../src/images/debs.ts";
import { contentKey } from "../../src/images/digest.ts";
import { findTool } from "../../src/images/host_tools.ts";
import { cacheDir } from "../../src/images/paths.ts";
import { exists } from "./command.ts";

/** A kernel of Debian's with its initrd. */
export interface DebianKernel {
  /** as in `uname -r` */
  readonly version: string;
  readonly kernelPath: string;
  readonly initrdPath: string;
}

/** What a stock Debian boots from. */
export interface DebianGuest {
  /** raw image of the root file system, to be taken as a base only */
  readonly diskPath: string;
  /** oldest first: the release's own, and the one of its backports if the mirror has them */
  readonly kernels: readonly DebianKernel[];
}

const KERNEL = "linux-image-cloud-amd64";
const PACKAGES = [
  ..."base-files base-passwd bash bsdutils coreutils dash dbus debianutils diffutils dpkg findutils grep gzip"
    .split(" "),
  ..."hostname init-system-helpers initramfs-tools kmod libc-bin libpam-systemd login mount ncurses-base"
    .split(
      " ",
    ),
  ..."ncurses-bin passwd perl-base sed systemd systemd-sysv sysvinit-utils tar udev util-linux zstd".split(
    " ",
  ),
];
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const DISK_SIZE = "2G";
const SETUP = fileURLToPath(new URL("./debian_setup.sh", import.meta.url));

/** Builds it into the cache, or finds it there. @throws {ImageError} */
export async function prepareDebian(): Promise<DebianGuest> {
  const folder = join(cacheDir(), "test-debian", guestKey());
  await buildOnce(folder, build);
  return readGuest(folder);
}

/** What {@linkcode prepareDebian} has built, or undefined. */
export function findDebian(): DebianGuest | undefined {
  const folder = join(cacheDir(), "test-debian", guestKey());
  return exists(folder) ? readGuest(folder) : undefined;
}

function guestKey(): string {
  return contentKey("debian guest 1", PACKAGES.join(" "), Deno.readFileSync(SETUP));
}

function readGuest(folder: string): DebianGuest {
  const versions = [...Deno.readDirSync(folder)].flatMap(({ name }) =>
    name.startsWith("vmlinuz-") ? [name.slice("vmlinuz-".length)] : []
  );
  const kernels = versions.sort(new Intl.Collator("en", { numeric: true }).compare).map((version) => ({
    version,
    kernelPath: join(folder, `vmlinuz-${version}`),
    initrdPath: join(folder, `initrd.img-${version}`),
  }));
  return { diskPath: join(folder, "disk.img"), kernels };
}

async function build(folder: string): Promise<void> {
  const root = join(folder, "root");
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await Deno.mkdir(join(root, "usr", name), { recursive: true });
    await Deno.symlink(`usr/${name}`, join(root, name));
  }
  const debs = [...await fetchDebs(cacheDir(), [...PACKAGES, KERNEL]), ...await backportedKernels()];
  await extractDebs(debs, root);
  await Deno.mkdir(join(root, "debs"));
  for (const deb of debs) {
    await Deno.copyFile(deb.path, join(root, "debs", `${deb.name}.deb`));
  }
  await runCommand(["unshare", "--mount", "sh", SETUP, root]);
  for await (const { name } of Deno.readDir(join(root, "boot"))) {
    if (/^(vmlinuz|initrd\.img)-/.test(name)) await Deno.rename(join(root, "boot", name), join(folder, name));
  }
  const mkfs = await findTool("mkfs.ext4") ?? "mkfs.ext4";
  await runCommand([mkfs, "-q", "-F", "-L", "debian", "-d", root, join(folder, "disk.img"), DISK_SIZE]);
  await Deno.remove(root, { recursive: true });
}

/**
 * The newer kernel of the release's backports, from the mirror that this machine's own packages come from; nothing where
 * that is no Debian mirror.
 */
async function backportedKernels(): Promise<Deb[]> {
  const format = ["--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"];
  const targets = await runCommand(["apt-get", "indextargets", ...format]);
  const [, release, mirror] = /^([a-z]+) main (http\S*\/debian\/)$/m.exec(targets) ?? [];
  if (release === undefined || mirror === undefined) return [];
  const folder = join(cacheDir(), "test-debian", `${release}-backports`);
  await Deno.mkdir(folder, { recursive: true });
  const source = `deb [signed-by=${KEYRING}] ${mirror}`;
  const list = join(folder, "sources.list");
  await Deno.writeTextFile(list, `${source} ${release} main\n${source} ${release}-backports main\n`);
  const config = join(folder, "apt.conf");
  await Deno.writeTextFile(config, `Dir::Etc::sourcelist "${list}";\nDir::Etc::sourceparts "/dev/null";\n`);
  // apt reads this file before its options, which are the image builder's own
  Deno.env.set("APT_CONFIG", config);
  try {
    const debs = await fetchDebs(folder, [`${KERNEL}/${release}-backports`]);
    return debs.filter(({ name }) => /^linux-image-[0-9]/.test(name));
  } finally {
    Deno.env.delete("APT_CONFIG");
  }
}
