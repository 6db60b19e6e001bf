/**
 * An Alpine disk with a login prompt on its serial console, made from Alpine's own root archive.
 *
 * @module
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeExt4 } from "../../src/images/ext4.ts";
import { downloadAlpine } from "../../src/images/alpine.ts";
import { cacheDir } from "../../src/images/paths.ts";
import { shell } from "./sandbox_cli.ts";

const INITTAB = `::sysinit:/bin/mount -t proc proc /proc
::sysinit:/bin/mount -t sysfs sys /sys
::sysinit:/bin/hostname alpine
ttyS0::respawn:/sbin/getty -L 0 ttyS0 vt100
::shutdown:/bin/umount -a -r
`;

/** Alpine's root archive: given, shared by developers, or from the CDN; undefined where none can be had. */
export async function findAlpine(): Promise<string | undefined> {
  const given = Deno.env.get("PADDOCK_ALPINE_ROOTFS");
  if (given !== undefined && given !== "") return given;
  const shared = fileURLToPath(new URL("../../../shared/alpine/", import.meta.url));
  try {
    for (const entry of Deno.readDirSync(shared)) {
      if (entry.name.endsWith("-x86_64.tar.gz")) return join(shared, entry.name);
    }
  } catch {
    // There is no such folder: try the CDN.
  }
  try {
    return (await downloadAlpine(cacheDir())).path;
  } catch {
    // The CDN cannot be reached from here.
    return undefined;
  }
}

/** Makes the disk below `folder` and gives its path. */
export async function makeAlpineDisk(alpine: string, folder: string): Promise<string> {
  await shell(
    `mkdir root; tar -C root -xzf "${alpine}"; sed -i 's/^root:[^:]*:/root::/' root/etc/shadow`,
    folder,
  );
  await Deno.writeTextFile(join(folder, "root/etc/inittab"), INITTAB);
  const disk = join(folder, "alpine.img");
  await makeExt4(join(folder, "root"), disk);
  return disk;
}
