/**
 * Builds what the emulated KVM host boots from: Debian's cloud kernel, a small initrd of our own, and a root
 * disk made of unpacked Debian packages. No package script runs, nothing is done in a chroot.
 *
 * @module
 */
import { join } from "node:path";
import { buildOnce } from "../images/build_once.ts";
import { runCommand } from "../images/command.ts";
import { fetchDebs } from "../images/debs.ts";
import { extractDebs } from "../images/debs.ts";
import { contentKey } from "../images/digest.ts";
import { ImageError } from "../images/image_error.ts";
import { cacheDir, sourceDir } from "../images/paths.ts";
import type { OnProgress } from "../images/progress.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";

/** What QEMU boots. */
export interface HostImage {
  readonly key: string;
  readonly kernelPath: string;
  readonly initrdPath: string;
  readonly diskPath: string;
}

/** Packages of the emulated host: what the server runs, what tests run, and a shell to look around with. */
const PACKAGES = [
  ..."base-files bash busybox-static coreutils dash debianutils diffutils e2fsprogs findutils gawk git grep gzip"
    .split(" "),
  ..."hostname iproute2 iputils-ping kmod linux-image-cloud-amd64 mount nftables procps qemu-utils".split(
    " ",
  ),
  ..."sed socat tar util-linux xz-utils zstd".split(" "),
];

/** Kernel modules that are loaded before the root disk is there, with all they depend on. */
const EARLY_MODULES = [
  "virtio_pci",
  "virtio_blk",
  "ext4",
  "virtiofs",
  "virtio_net",
  "overlay",
  "kvm_amd",
  "tun",
];

/** Folders of the packages that only people read. */
const UNNEEDED = [
  "usr/share/doc",
  "usr/share/man",
  "usr/share/info",
  "usr/share/locale",
  "usr/share/perl",
  "boot",
];

const DISK_SIZE = "8G";

/** Makes or finds the image. @throws {ImageError} */
export async function prepareHostImage(
  options: { onProgress: OnProgress; signal?: AbortSignal | undefined },
): Promise<HostImage> {
  const init = await Deno.readFile(join(sourceDir(), "src/emulated/initrd_init.sh"));
  const key = contentKey("host image 1", PACKAGES.join(" "), EARLY_MODULES.join(" "), init);
  const folder = join(cacheDir(), "emulated", key);
  await buildOnce(folder, (temporary) => build(temporary, init, options), options.signal);
  return {
    key,
    kernelPath: join(folder, "vmlinuz"),
    initrdPath: join(folder, "initrd.img"),
    diskPath: join(folder, "disk.img"),
  };
}

async function build(
  folder: string,
  init: Uint8Array,
  options: { onProgress: OnProgress; signal?: AbortSignal | undefined },
): Promise<void> {
  const { onProgress, signal } = options;
  const started = performance.now();
  const step = "emulated-host";
  onProgress({ type: "step", step, message: "Building the emulated KVM host", index: 1, count: 1 });
  const root = join(folder, "root");
  await makeSkeleton(root);
  const onBytes = (done: number, total: number): void =>
    onProgress({ type: "progress", step, done, total, unit: "bytes" });
  const debs = await fetchDebs(cacheDir(), PACKAGES, { signal, onBytes });
  await extractDebs(debs, root, signal);
  const kernel = await installKernel(root, folder, signal);
  await Deno.writeFile(join(folder, "initrd.img"), await buildInitrd(root, kernel, init));
  for (const path of UNNEEDED) await Deno.remove(join(root, path), { recursive: true }).catch(ignoreMissing);
  await Deno.mkdir(join(root, "boot"), { recursive: true });
  await makeDisk(root, join(folder, "disk.img"), signal);
  await Deno.remove(root, { recursive: true });
  onProgress({ type: "done", step, ms: Math.round(performance.now() - started) });
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

async function makeSkeleton(root: string): Promise<void> {
  for (const name of ["bin", "sbin", "lib", "lib64"]) {
    await Deno.mkdir(join(root, "usr", name), { recursive: true });
    await Deno.symlink(`usr/${name}`, join(root, name));
  }
  for (
    const name of [
      "dev",
      "proc",
      "sys",
      "run",
      "tmp",
      "root",
      "etc",
      "mnt/share",
      "var/tmp",
      "var/lib",
      "exchange",
    ]
  ) {
    await Deno.mkdir(join(root, name), { recursive: true });
  }
  const files = {
    passwd: "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    group: "root:x:0:\ntty:x:5:\nkvm:x:104:\nnogroup:x:65534:\n",
    hosts: "127.0.0.1 localhost paddock-host\n10.0.2.2 outer-host\n",
    hostname: "paddock-host\n",
    "resolv.conf": "nameserver 10.0.2.3\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  };
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeTextFile(join(root, "etc", name), content);
  }
}

/** Takes the kernel out of the root and indexes its modules; returns the kernel's version. */
async function installKernel(root: string, folder: string, signal: AbortSignal | undefined): Promise<string> {
  const versions: string[] = [];
  for await (const entry of Deno.readDir(join(root, "usr/lib/modules"))) versions.push(entry.name);
  const version = versions[0];
  if (version === undefined) {
    throw new ImageError(
      "command_failed",
      "The kernel package holds no modules",
      "Report this, with the Debian version of this machine",
    );
  }
  await Deno.copyFile(join(root, "boot", `vmlinuz-${version}`), join(folder, "vmlinuz"));
  const depmod = await runCommandPath("depmod");
  await runCommand([depmod, "-b", root, version], { signal });
  return version;
}

async function runCommandPath(tool: string): Promise<string> {
  const { findTool } = await import("../images/host_tools.ts");
  return await findTool(tool) ?? tool;
}

async function buildInitrd(root: string, kernel: string, init: Uint8Array): Promise<Uint8Array> {
  const modulesDir = join(root, "usr/lib/modules", kernel);
  const order = loadOrder(await Deno.readTextFile(join(modulesDir, "modules.dep")), EARLY_MODULES);
  const entries: CpioEntry[] = ["bin", "dev", "proc", "root", "modules"].map((path) => ({
    kind: "folder",
    path,
  }));
  const names: string[] = [];
  for (const path of order) {
    const name = (path.split("/").pop() ?? path).replace(/\.xz$/, "");
    const content = path.endsWith(".xz")
      ? await unxz(join(modulesDir, path))
      : await Deno.readFile(join(modulesDir, path));
    names.push(name);
    entries.push({ kind: "file", path: `modules/${name}`, mode: 0o644, content });
  }
  const busybox = await Deno.readFile(join(root, "usr/bin/busybox"));
  entries.push({ kind: "file", path: "bin/busybox", mode: 0o755, content: busybox });
  entries.push({
    kind: "file",
    path: "modules/order",
    mode: 0o644,
    content: new TextEncoder().encode(names.join("\n") + "\n"),
  });
  entries.push({ kind: "file", path: "init", mode: 0o755, content: init });
  return writeCpio(entries);
}

async function unxz(path: string): Promise<Uint8Array> {
  const { stdout, success } = await new Deno.Command("xz", { args: ["-dc", path], stderr: "null" }).output();
  if (!success) {
    throw new ImageError(
      "command_failed",
      `Cannot unpack "${path}"`,
      "Install it: apt-get install -y xz-utils",
    );
  }
  return stdout;
}

/** Paths of `wanted` modules and of all they need, each after what it needs. `dep` is `modules.dep`. */
export function loadOrder(dep: string, wanted: readonly string[]): string[] {
  const needs = new Map<string, string[]>();
  const byName = new Map<string, string>();
  for (const line of dep.split("\n")) {
    const [path, rest] = line.split(":");
    if (path === undefined || rest === undefined) continue;
    needs.set(path, rest.trim() === "" ? [] : rest.trim().split(" "));
    byName.set((path.split("/").pop() ?? "").replace(/\.ko(\.xz)?$/, "").replaceAll("-", "_"), path);
  }
  const order: string[] = [];
  const visit = (path: string): void => {
    if (order.includes(path)) return;
    for (const need of needs.get(path) ?? []) visit(need);
    if (!order.includes(path)) order.push(path);
  };
  // ext4 asks for crc32c by name at mount, which modules.dep does not know
  for (const name of [...wanted, "crc32c_generic", "crc32c_intel"]) {
    const path = byName.get(name);
    if (path !== undefined) visit(path);
  }
  return order;
}

async function makeDisk(root: string, disk: string, signal: AbortSignal | undefined): Promise<void> {
  const mkfs = await runCommandPath("mkfs.ext4");
  const features = "^has_journal,^metadata_csum";
  await runCommand([
    mkfs,
    "-q",
    "-F",
    "-m",
    "0",
    "-O",
    features,
    "-E",
    "root_owner=0:0",
    "-d",
    root,
    disk,
    DISK_SIZE,
  ], { signal });
}
