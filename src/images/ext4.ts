/**
 * Makes an ext4 image from a folder, without mounting anything.
 *
 * @module
 */
import { runCommand } from "./command.ts";
import { findTool } from "./host_tools.ts";

const MIB = 1024 * 1024;

/** Room for the guest's own files, in `MiB`; the image is sparse, so it costs nothing until it is used. */
const FREE_MIB = 4096;

/** Writes the image `path` from `root`. @throws {ImageError} */
export async function makeExt4(root: string, path: string, signal?: AbortSignal): Promise<void> {
  const usage = await runCommand(["du", "-s", "-B1", "--apparent-size", root], { signal });
  const contentMib = Math.ceil(Number.parseInt(usage) / MIB);
  const sizeMib = Math.ceil(contentMib * 1.1) + FREE_MIB;
  const mkfs = await findTool("mkfs.ext4") ?? "mkfs.ext4";
  // No journal: the disk is thrown away with its guest. Inode tables are written now, else each guest does it
  const features = ["-O", "^has_journal", "-E", "root_owner=0:0,lazy_itable_init=0"];
  await runCommand([
    mkfs,
    "-q",
    "-F",
    "-m",
    "0",
    "-L",
    "paddock",
    ...features,
    "-d",
    root,
    path,
    `${sizeMib}M`,
  ], { signal });
}
