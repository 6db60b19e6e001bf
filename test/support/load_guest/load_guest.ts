/**
 * A guest that makes load: a root disk with fio, iperf3 and small programs of our own, whose PID 1 takes commands on the
 * console. Any monitor can boot it.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { buildOnce } from "../../../src/images/build_once.ts";
import { runCommand } from "../../../src/images/command.ts";
import { type Deb, extractDebs, fetchDebs } from "../../../src/images/debs.ts";
import { contentKey } from "../../../src/images/digest.ts";
import { findTool } from "../../../src/images/host_tools.ts";
import { prepareKernel } from "../../../src/images/kernel.ts";
import { cacheDir } from "../../../src/images/paths.ts";
import type { OnProgress } from "../../../src/images/progress.ts";
import { exists } from "../command.ts";

/** What the guest boots from. */
export interface LoadGuest {
  /** the product's own kernel, an ELF file with a PVH entry */
  readonly kernelPath: string;
  /** raw image of the root disk; guests have it read-only */
  readonly diskPath: string;
}

/** What its PID 1 prints when it takes commands. */
export const READY = "load-ready";
/** Words of the kernel command line that the guest needs; its root disk has to be the first. */
export const CMDLINE =
  "console=ttyS0 quiet reboot=t panic=-1 i8042.nokbd i8042.noaux tsc=reliable random.trust_cpu=on " +
  "root=/dev/vda ro init=/bench/init";

const PACKAGES = ["busybox-static", "fio", "iperf3"];
/** Dependencies of fio's report scripts and of package scripts, which are most of the bytes. */
const UNNEEDED_PACKAGES =
  /^(python3.*|libpython3.*|perl.*|libperl.*|lib.*-perl|dpkg|tar|debconf|adduser|passwd|usrmerge|media-types|readline.*)$/;
const UNNEEDED_FOLDERS = ["usr/share", "var", "etc"];
/** Programs of BusyBox that the guest's PID 1 and the jobs call. */
const APPLETS = "sh mount stty ip cat cut tail grep sync sleep ls dd blkdiscard sha256sum poweroff".split(
  " ",
);
const PROGRAMS = ["flush_steps", "ping_pong"];
const DISK_SIZE = "512M";

function sourceOf(name: string): string {
  return fileURLToPath(new URL(name, import.meta.url));
}

function diskFolder(): string {
  const sources = ["init.sh", ...PROGRAMS.map((name) => `${name}.c`)];
  const contents = sources.map((name) => Deno.readFileSync(sourceOf(name)));
  return join(cacheDir(), "test-load", contentKey("load guest 1", ...PACKAGES, ...APPLETS, ...contents));
}

/** Builds it into the cache, or finds it there. @throws {ImageError} */
export async function prepareLoadGuest(onProgress: OnProgress = () => {}): Promise<LoadGuest> {
  const { vmlinuxPath } = await prepareKernel({ onProgress, step: "kernel" });
  await buildOnce(diskFolder(), build);
  return { kernelPath: vmlinuxPath, diskPath: join(diskFolder(), "disk.img") };
}

/** What {@linkcode prepareLoadGuest} has built, or undefined. */
export async function findLoadGuest(): Promise<LoadGuest | undefined> {
  return exists(diskFolder()) ? await prepareLoadGuest() : undefined;
}

async function build(folder: string): Promise<void> {
  const root = join(folder, "root");
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await Deno.mkdir(join(root, "usr", name), { recursive: true });
    await Deno.symlink(`usr/${name}`, join(root, name));
  }
  const debs = (await fetchDebs(cacheDir(), PACKAGES)).filter((deb: Deb) =>
    !UNNEEDED_PACKAGES.test(deb.name)
  );
  await extractDebs(debs, root);
  for (const path of UNNEEDED_FOLDERS) {
    if (exists(join(root, path))) await Deno.remove(join(root, path), { recursive: true });
  }
  for (const name of ["bench", "dev", "proc", "sys", "tmp"]) await Deno.mkdir(join(root, name));
  for (const name of APPLETS) {
    if (!exists(join(root, "usr/bin", name))) await Deno.symlink("busybox", join(root, "usr/bin", name));
  }
  await Deno.copyFile(sourceOf("init.sh"), join(root, "bench/init"));
  await Deno.chmod(join(root, "bench/init"), 0o755);
  for (const name of PROGRAMS) await buildLoadProgram(name, join(root, "usr/bin", name));
  const mkfs = await findTool("mkfs.ext4") ?? "mkfs.ext4";
  const features = ["-O", "^has_journal", "-E", "root_owner=0:0,lazy_itable_init=0"];
  await runCommand([
    mkfs,
    ...["-q", "-F", "-m", "0", "-L", "load", ...features],
    ...["-d", root, join(folder, "disk.img"), DISK_SIZE],
  ]);
  await Deno.remove(root, { recursive: true });
}

/** Compiles one of the guest's programs: static, so that hosts can run it too. */
export async function buildLoadProgram(name: string, path: string): Promise<void> {
  await runCommand(["cc", "-static", "-O2", "-s", "-Wall", "-Wextra", "-o", path, sourceOf(`${name}.c`)]);
}
