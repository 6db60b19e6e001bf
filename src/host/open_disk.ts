/**
 * Opens a disk image of any supported format, with its backing files.
 *
 * @module
 */

import type { Iovec } from "../ffi/iovec.ts";
import { Qcow2Disk, type Qcow2Options } from "./qcow2.ts";
import { RawDisk } from "./raw_disk.ts";

/** A disk, whatever its format. */
export type Disk = RawDisk | Qcow2Disk;

/** What to open, and how. */
export interface OpenDiskOptions {
  readonly path: string;
  readonly format: "raw" | "qcow2";
  readonly readOnly: boolean;
  /** make `path` first, as an empty overlay over this image */
  readonly overlayOf?: { readonly path: string; readonly format: "raw" | "qcow2" };
}

/** Backing files of backing files; more is a cycle or a mistake. */
const MAX_DEPTH = 8;

/**
 * Opens (or makes and opens) a disk.
 *
 * @throws {SysError} if a file cannot be opened or made
 * @throws {Qcow2Error} if an image is damaged or not supported
 */
export function openDisk(options: OpenDiskOptions, iovec: Iovec, depth = 0): Disk {
  const { path, format, readOnly, overlayOf } = options;
  if (overlayOf !== undefined) {
    using base = openDisk({ ...overlayOf, readOnly: true }, iovec, depth + 1);
    const backing = { path: absolutePath(overlayOf.path, Deno.cwd), format: overlayOf.format };
    Qcow2Disk.create(path, base.sizeBytes, { iovec, backing });
    return openDisk({ path, format: "qcow2", readOnly }, iovec, depth);
  }
  if (format === "raw") return new RawDisk(path, { readOnly, iovec });
  if (depth > MAX_DEPTH) throw new RangeError(`Cannot open "${path}": more than ${MAX_DEPTH} backing files`);
  const openBacking: Qcow2Options["openBacking"] = (backing) =>
    openDisk(
      {
        path: absolutePath(backing.path, () => path.slice(0, path.lastIndexOf("/") + 1) || "."),
        format: backing.format,
        readOnly: true,
      },
      iovec,
      depth + 1,
    );
  return Qcow2Disk.open(path, { readOnly, iovec, openBacking });
}

/** `path`, or if it is relative, the place that it has in `folder`. Not by Node's module, see `node_module.ts`. */
function absolutePath(path: string, folder: () => string): string {
  return path.startsWith("/") ? path : `${folder()}/${path}`;
}
