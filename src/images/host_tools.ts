/**
 * The programs of the host that the product needs, and the Debian packages that hold them.
 *
 * @module
 */
import { ImageError } from "./image_error.ts";

/** What a program is needed for. */
export type ToolPurpose = "kernel" | "image" | "network" | "emulated-host";

/** A program of the host. */
export interface HostTool {
  /** name on PATH, or absolute paths of which one must exist */
  readonly tool: string;
  readonly debianPackage: string;
  readonly neededFor: readonly ToolPurpose[];
  /** where to look when it is not on PATH */
  readonly paths?: readonly string[];
}

/** All of them. */
export const HOST_TOOLS: readonly HostTool[] = [
  { tool: "gcc", debianPackage: "gcc", neededFor: ["kernel"] },
  { tool: "make", debianPackage: "make", neededFor: ["kernel"] },
  { tool: "flex", debianPackage: "flex", neededFor: ["kernel"] },
  { tool: "bison", debianPackage: "bison", neededFor: ["kernel"] },
  { tool: "bc", debianPackage: "bc", neededFor: ["kernel"] },
  { tool: "strip", debianPackage: "binutils", neededFor: ["kernel"] },
  { tool: "xz", debianPackage: "xz-utils", neededFor: ["kernel", "image"] },
  { tool: "perl", debianPackage: "perl", neededFor: ["kernel"] },
  { tool: "stdio.h", debianPackage: "libc6-dev", neededFor: ["kernel"], paths: ["/usr/include/stdio.h"] },
  { tool: "libelf.h", debianPackage: "libelf-dev", neededFor: ["kernel"], paths: ["/usr/include/libelf.h"] },
  { tool: "apt-get", debianPackage: "apt", neededFor: ["kernel", "image", "emulated-host"] },
  { tool: "dpkg-deb", debianPackage: "dpkg", neededFor: ["kernel", "image", "emulated-host"] },
  { tool: "tar", debianPackage: "tar", neededFor: ["kernel", "image", "emulated-host"] },
  { tool: "musl-gcc", debianPackage: "musl-tools", neededFor: ["image"] },
  {
    tool: "mkfs.ext4",
    debianPackage: "e2fsprogs",
    neededFor: ["image", "emulated-host"],
    paths: ["/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4"],
  },
  { tool: "npm", debianPackage: "npm", neededFor: ["image"] },
  { tool: "ip", debianPackage: "iproute2", neededFor: ["network"], paths: ["/sbin/ip", "/usr/sbin/ip"] },
  { tool: "nft", debianPackage: "nftables", neededFor: ["network"], paths: ["/sbin/nft", "/usr/sbin/nft"] },
  { tool: "socat", debianPackage: "socat", neededFor: ["network"] },
  { tool: "git", debianPackage: "git", neededFor: ["network"] },
  { tool: "qemu-system-x86_64", debianPackage: "qemu-system-x86", neededFor: ["emulated-host"] },
  {
    tool: "virtiofsd",
    debianPackage: "qemu-system-common",
    neededFor: ["emulated-host"],
    paths: ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"],
  },
  {
    tool: "depmod",
    debianPackage: "kmod",
    neededFor: ["emulated-host"],
    paths: ["/sbin/depmod", "/usr/sbin/depmod"],
  },
  { tool: "setpriv", debianPackage: "util-linux", neededFor: ["emulated-host"] },
  { tool: "unshare", debianPackage: "util-linux", neededFor: ["emulated-host"] },
];

/** Debian package of a program, if it is one of ours. */
export function packageOf(tool: string): string | undefined {
  const name = tool.slice(tool.lastIndexOf("/") + 1);
  return HOST_TOOLS.find((entry) => entry.tool === name)?.debianPackage;
}

/** Where a program is, or undefined. */
export async function findTool(tool: string): Promise<string | undefined> {
  const known = HOST_TOOLS.find((entry) => entry.tool === tool)?.paths ?? [];
  const onPath = (Deno.env.get("PATH") ?? "/usr/bin:/bin").split(":").map((folder) => `${folder}/${tool}`);
  for (const path of [...onPath, ...known]) {
    try {
      if ((await Deno.stat(path)).isFile) return path;
    } catch {
      // not there: try the next place
    }
  }
  return undefined;
}

/** The programs for `purposes` that this machine lacks. */
export async function missingTools(...purposes: readonly ToolPurpose[]): Promise<HostTool[]> {
  const missing: HostTool[] = [];
  for (const entry of HOST_TOOLS) {
    if (!entry.neededFor.some((purpose) => purposes.includes(purpose))) continue;
    if (await findTool(entry.tool) === undefined) missing.push(entry);
  }
  return missing;
}

/** The command that installs `tools`. */
export function installCommand(tools: readonly HostTool[]): string[] {
  const packages = [...new Set(tools.map((entry) => entry.debianPackage))].sort();
  return ["apt-get", "install", "-y", "--no-install-recommends", ...packages];
}

/** @throws {ImageError} naming every missing program and the command that installs them */
export async function requireTools(...purposes: readonly ToolPurpose[]): Promise<void> {
  const missing = await missingTools(...purposes);
  if (missing.length === 0) return;
  const root = Deno.uid() === 0 ? "" : "sudo ";
  throw new ImageError(
    "tool_missing",
    `Not installed: ${missing.map((entry) => entry.tool).join(", ")}`,
    `Install them: ${root}${installCommand(missing).join(" ")} (or: deno task sandbox doctor --install)`,
  );
}

/** Installs `tools` with apt-get; the caller has the user's consent. @throws {ImageError} when apt-get fails */
export async function installMissing(
  tools: readonly HostTool[],
  onLine: (line: string) => void,
): Promise<void> {
  if (tools.length === 0) return;
  // Late: command.ts imports this module for its messages
  const { runCommand } = await import("./command.ts");
  const root = Deno.uid() === 0 ? [] : ["sudo", "-n"];
  const env = { ...Deno.env.toObject(), DEBIAN_FRONTEND: "noninteractive" };
  await runCommand([...root, "apt-get", "update", "-q"], { env, onLine });
  await runCommand([...root, ...installCommand(tools)], { env, onLine });
}
