/**
 * A qcow2 version 3 image (QEMU's docs/interop/qcow2): a disk whose clusters are allocated when they are first
 * written, over a backing disk that is never written.
 *
 * Order of writes: count the cluster, fill it, point to it. Freeing goes the other way. A kill at any moment leaves
 * an image that is consistent, with at worst a leaked cluster. After `flush` all that was written is on the disk.
 *
 * @module
 */

import type { Iovec } from "../ffi/iovec.ts";
import { nodeModule } from "../ffi/node_module.ts";
import { fdatasync } from "../ffi/sys.ts";
import { DiskFile } from "./disk_file.ts";
import type { FileExtent } from "./disk_queue.ts";
import { newQcow2Image, parseQcow2Header, Qcow2Error, type Qcow2Header } from "./qcow2_header.ts";
import { type Mapping, Qcow2Map } from "./qcow2_map.ts";
import { Qcow2Refcounts } from "./qcow2_refcounts.ts";
import { ViewCursor } from "./view_cursor.ts";

type Views = Uint8Array<ArrayBuffer>[];

/** What an image reads where it has no data of its own. */
export interface BackingDisk extends Disposable {
  readonly sizeBytes: number;
  read(views: Views, diskOffset: number): void;
  extents(kind: "read", diskOffset: number, sizeBytes: number): FileExtent[] | undefined;
}

/** How to open an image. */
export interface Qcow2Options {
  readonly readOnly: boolean;
  readonly iovec: Iovec;
  /** opens the backing file that the header names */
  readonly openBacking: (backing: { path: string; format: "raw" | "qcow2" }) => BackingDisk;
}

/** A qcow2 disk. */
export class Qcow2Disk implements Disposable {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #file: DiskFile;
  readonly #clusterBytes: number;
  readonly #refcounts: Qcow2Refcounts;
  readonly #map: Qcow2Map;
  readonly #backing: BackingDisk | undefined;

  private constructor(file: DiskFile, header: Qcow2Header, options: Qcow2Options) {
    this.#file = file;
    this.sizeBytes = header.sizeBytes;
    this.readOnly = options.readOnly;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#refcounts = new Qcow2Refcounts(file, header);
    this.#map = new Qcow2Map(file, header, this.#refcounts);
    this.#backing = header.backing && options.openBacking(header.backing);
  }

  /**
   * Opens an image.
   *
   * @throws {Qcow2Error} if it is damaged or not supported
   */
  static open(path: string, options: Qcow2Options): Qcow2Disk {
    const file = DiskFile.open(path, options);
    try {
      const start = new Uint8Array(65_536);
      file.read(start, 0);
      const header = parseQcow2Header(start);
      // Shared clusters would have to be copied on write; nothing here makes snapshots inside an image.
      if (!options.readOnly && header.snapshotCount > 0) {
        throw new Qcow2Error("The image has internal snapshots");
      }
      return new Qcow2Disk(file, header, options);
    } catch (error) {
      file[Symbol.dispose]();
      throw error;
    }
  }

  /** Makes a new, empty image of `sizeBytes` at `path`, over a backing file if there is one. */
  static create(
    path: string,
    sizeBytes: number,
    options: { iovec: Iovec; backing?: { path: string; format: "raw" | "qcow2" } },
  ): void {
    using file = DiskFile.create(path, options.iovec);
    file.write(newQcow2Image(sizeBytes, options.backing), 0);
  }

  /** a cluster: a write of less than one that was never written copies the rest of it */
  get unitBytes(): number {
    return this.#clusterBytes;
  }

  get fd(): number {
    return this.#file.fd;
  }

  /**
   * Where a range of the disk is in files, as long as no cluster is freed; `undefined` if that alone does not do: a
   * write needs new clusters, or a read unpacks some.
   */
  extents(kind: "read" | "write", diskOffset: number, sizeBytes: number): FileExtent[] | undefined {
    const found: FileExtent[] = [];
    const end = diskOffset + sizeBytes;
    for (let at = diskOffset; at < end;) {
      const run = this.#run(at, end);
      const { mapping } = run;
      if (mapping.kind === "data") {
        found.push({ fd: this.#file.fd, fileOffset: mapping.fileOffset, sizeBytes: run.sizeBytes });
      } else if (kind === "write" || mapping.kind === "compressed") return undefined;
      else if (mapping.kind === "zero") found.push(zeros(run.sizeBytes));
      else {
        const below = backingExtents(this.#backing, at, run.sizeBytes);
        if (below === undefined) return undefined;
        found.push(...below);
      }
      at += run.sizeBytes;
    }
    return found;
  }

  read(views: Views, diskOffset: number): void {
    const cursor = new ViewCursor(views);
    const end = diskOffset + cursor.totalBytes;
    for (let at = diskOffset; at < end;) {
      const { mapping, sizeBytes } = this.#run(at, end);
      this.#readRun(mapping, cursor.take(sizeBytes), at);
      at += sizeBytes;
    }
  }

  write(views: Views, diskOffset: number): void {
    const cursor = new ViewCursor(views);
    const end = diskOffset + cursor.totalBytes;
    for (let at = diskOffset; at < end;) {
      const { mapping, sizeBytes } = this.#run(at, end);
      if (mapping.kind === "data") {
        this.#file.writeViews(cursor.take(sizeBytes), mapping.fileOffset);
        at += sizeBytes;
      } else {
        const count = Math.min(this.#clusterBytes - at % this.#clusterBytes, end - at);
        this.#writeNewCluster(cursor.take(count), at, count);
        at += count;
      }
    }
  }

  flush(): void {
    fdatasync(this.#file.fd);
  }

  writeZeroes(diskOffset: number, sizeBytes: number, unmap: boolean): void {
    const end = diskOffset + sizeBytes;
    for (let at = diskOffset; at < end;) {
      const count = Math.min(this.#clusterBytes - at % this.#clusterBytes, end - at);
      const mapping = this.#map.lookup(at);
      // The last cluster may be shorter than a cluster: all of it that exists counts as whole.
      const whole = at % this.#clusterBytes === 0 &&
        (count === this.#clusterBytes || at + count === this.sizeBytes);
      if (whole && (unmap || mapping.kind !== "data")) this.#map.setZero(at);
      else if (mapping.kind !== "zero") this.write([new Uint8Array(count)], at);
      at += count;
    }
  }

  [Symbol.dispose](): void {
    this.#backing?.[Symbol.dispose]();
    this.#file[Symbol.dispose]();
  }

  /** The longest range from `at` that one host read or write can serve, and where it is. */
  #run(at: number, end: number): { mapping: Mapping; sizeBytes: number } {
    const mapping = this.#map.lookup(at);
    let sizeBytes = Math.min(this.#clusterBytes - at % this.#clusterBytes, end - at);
    while (at + sizeBytes < end) {
      const next = this.#map.lookup(at + sizeBytes);
      if (next.kind !== mapping.kind || next.kind === "compressed") break;
      const follows = next.kind === "data" && mapping.kind === "data"
        ? next.fileOffset === mapping.fileOffset + sizeBytes
        : true;
      if (!follows) break;
      sizeBytes += Math.min(this.#clusterBytes, end - at - sizeBytes);
    }
    return { mapping, sizeBytes };
  }

  #readRun(mapping: Mapping, views: Views, diskOffset: number): void {
    switch (mapping.kind) {
      case "data":
        return this.#file.readViews(views, mapping.fileOffset);
      case "zero":
        return views.forEach((view) => view.fill(0));
      case "unallocated":
        return readBacking(this.#backing, views, diskOffset);
      case "compressed":
        return this.#readCompressed(mapping, views, diskOffset % this.#clusterBytes);
    }
  }

  #readCompressed(mapping: Mapping & { kind: "compressed" }, views: Views, offset: number): void {
    const packed = new Uint8Array(mapping.sizeBytes);
    this.#file.read(packed, mapping.fileOffset);
    let cluster: Uint8Array;
    try {
      cluster = nodeModule("node:zlib").inflateRawSync(packed, { maxOutputLength: this.#clusterBytes });
    } catch (cause) {
      throw new Qcow2Error("Damaged qcow2 image: a compressed cluster cannot be unpacked", { cause });
    }
    for (const view of views) {
      view.set(cluster.subarray(offset, offset + view.byteLength));
      offset += view.byteLength;
    }
  }

  /** Writes part of a cluster that has no place of its own yet: the rest of it is copied from what it read as. */
  #writeNewCluster(views: Views, diskOffset: number, sizeBytes: number): void {
    const before = diskOffset % this.#clusterBytes;
    const after = this.#clusterBytes - before - sizeBytes;
    const whole = [
      this.#oldContent(diskOffset - before, before),
      views,
      this.#oldContent(diskOffset + sizeBytes, after),
    ];
    const fileOffset = this.#refcounts.allocate();
    this.#file.writeViews(whole.flat(), fileOffset);
    this.#map.setData(diskOffset, fileOffset);
  }

  #oldContent(diskOffset: number, sizeBytes: number): Views {
    if (sizeBytes === 0) return [];
    const content = new Uint8Array(sizeBytes);
    const inside = Math.min(sizeBytes, this.sizeBytes - diskOffset);
    if (inside > 0) this.read([content.subarray(0, inside)], diskOffset);
    return [content];
  }
}

function zeros(sizeBytes: number): FileExtent {
  return { fd: undefined, fileOffset: 0, sizeBytes };
}

function backingExtents(
  backing: BackingDisk | undefined,
  diskOffset: number,
  sizeBytes: number,
): FileExtent[] | undefined {
  const inside = insideOf(backing, diskOffset, sizeBytes);
  const found = inside > 0 ? backing?.extents("read", diskOffset, inside) : [];
  return found && (inside < sizeBytes ? [...found, zeros(sizeBytes - inside)] : found);
}

/** How many bytes of a range the backing disk has. */
function insideOf(backing: BackingDisk | undefined, diskOffset: number, sizeBytes: number): number {
  return Math.min(sizeBytes, Math.max(0, (backing?.sizeBytes ?? 0) - diskOffset));
}

/** Reads from the backing disk; beyond its end, and without one, there are zeros. */
function readBacking(backing: BackingDisk | undefined, views: Views, diskOffset: number): void {
  const cursor = new ViewCursor(views);
  const total = cursor.totalBytes;
  const inside = insideOf(backing, diskOffset, total);
  if (inside > 0) backing?.read(cursor.take(inside), diskOffset);
  for (const view of cursor.take(total - inside)) view.fill(0);
}
