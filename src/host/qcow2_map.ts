/**
 * Where each cluster of a qcow2 disk is: the two-level table from disk offsets to file offsets. Changes are written
 * through at once, so that any cached table may be forgotten.
 *
 * @module
 */

import type { DiskFile } from "./disk_file.ts";
import { Qcow2Error, type Qcow2Header } from "./qcow2_header.ts";
import type { Qcow2Refcounts } from "./qcow2_refcounts.ts";

const FLAG_COPIED = 1n << 63n;
const FLAG_COMPRESSED = 1n << 62n;
const FLAG_ZERO = 1n;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
/** L2 tables in memory at once: 8 MiB, and 64 GiB of disk, with clusters of 64 KiB. */
const MAX_CACHED_TABLES = 128;

/** Where one cluster's content is; `fileOffset` is that of the byte that was looked up. */
export type Mapping =
  | { readonly kind: "unallocated" | "zero" }
  | { readonly kind: "data"; readonly fileOffset: number }
  /** a whole cluster, packed into at most `sizeBytes` from `fileOffset` */
  | { readonly kind: "compressed"; readonly fileOffset: number; readonly sizeBytes: number };

interface Table {
  readonly fileOffset: number;
  readonly entries: DataView<ArrayBuffer>;
}

/** The cluster map of one image. */
export class Qcow2Map {
  readonly #file: DiskFile;
  readonly #refcounts: Qcow2Refcounts;
  readonly #clusterBits: number;
  readonly #l1Offset: number;
  readonly #l1: DataView<ArrayBuffer>;
  readonly #tables = new Map<number, Table>();

  constructor(file: DiskFile, header: Qcow2Header, refcounts: Qcow2Refcounts) {
    this.#file = file;
    this.#refcounts = refcounts;
    this.#clusterBits = header.clusterBits;
    this.#l1Offset = header.l1Offset;
    const l1 = new Uint8Array(header.l1Entries * 8);
    file.read(l1, header.l1Offset);
    this.#l1 = new DataView(l1.buffer);
  }

  get #clusterBytes(): number {
    return 2 ** this.#clusterBits;
  }

  /** Where the byte at `diskOffset` is. */
  lookup(diskOffset: number): Mapping {
    const { l1Index, l2Index } = this.#indexes(diskOffset);
    const entry = this.#table(l1Index)?.entries.getBigUint64(l2Index * 8) ?? 0n;
    if ((entry & FLAG_COMPRESSED) !== 0n) return this.#compressed(entry);
    if ((entry & FLAG_ZERO) !== 0n) return { kind: "zero" };
    const fileOffset = Number(entry & OFFSET_MASK);
    if (fileOffset === 0) return { kind: "unallocated" };
    if (fileOffset % this.#clusterBytes !== 0) {
      throw new Qcow2Error("Damaged qcow2 image: a cluster is misaligned");
    }
    return { kind: "data", fileOffset: fileOffset + diskOffset % this.#clusterBytes };
  }

  /** Points the cluster of `diskOffset` to a filled cluster at `fileOffset`, and frees what it pointed to. */
  setData(diskOffset: number, fileOffset: number): void {
    this.#replace(diskOffset, BigInt(fileOffset) | FLAG_COPIED);
  }

  /** Makes the cluster of `diskOffset` read as zeros, and frees what it pointed to. */
  setZero(diskOffset: number): void {
    this.#replace(diskOffset, FLAG_ZERO);
  }

  #indexes(diskOffset: number): { l1Index: number; l2Index: number } {
    const cluster = Math.floor(diskOffset / this.#clusterBytes);
    const perTable = this.#clusterBytes / 8;
    return { l1Index: Math.floor(cluster / perTable), l2Index: cluster % perTable };
  }

  #replace(diskOffset: number, entry: bigint): void {
    const { l1Index, l2Index } = this.#indexes(diskOffset);
    const table = this.#table(l1Index) ?? this.#createTable(l1Index);
    const old = table.entries.getBigUint64(l2Index * 8);
    table.entries.setBigUint64(l2Index * 8, entry);
    this.#file.write(new Uint8Array(table.entries.buffer, l2Index * 8, 8), table.fileOffset + l2Index * 8);
    this.#release(old);
  }

  #release(entry: bigint): void {
    if ((entry & FLAG_COMPRESSED) !== 0n) {
      const { fileOffset, sizeBytes } = this.#compressed(entry);
      const last = fileOffset + sizeBytes - 1;
      for (let at = fileOffset - fileOffset % this.#clusterBytes; at <= last; at += this.#clusterBytes) {
        this.#refcounts.release(at);
      }
      return;
    }
    // A zero cluster may keep its place in the file ("preallocated").
    const fileOffset = Number(entry & OFFSET_MASK);
    if (fileOffset !== 0) this.#refcounts.release(fileOffset);
  }

  /** Compressed descriptor: offset in the low bits, then the number of additional 512-byte sectors. */
  #compressed(entry: bigint): Mapping & { kind: "compressed" } {
    const offsetBits = BigInt(62 - (this.#clusterBits - 8));
    const fileOffset = Number(entry & ((1n << offsetBits) - 1n));
    const sectors = Number((entry & (FLAG_COMPRESSED - 1n)) >> offsetBits);
    return { kind: "compressed", fileOffset, sizeBytes: (sectors + 1) * 512 - fileOffset % 512 };
  }

  #table(l1Index: number): Table | undefined {
    const cached = this.#tables.get(l1Index);
    if (cached !== undefined) return cached;
    const entry = this.#l1.getBigUint64(l1Index * 8);
    const fileOffset = Number(entry & OFFSET_MASK);
    if (fileOffset === 0) return undefined;
    if (fileOffset % this.#clusterBytes !== 0) {
      throw new Qcow2Error("Damaged qcow2 image: an L2 table is misaligned");
    }
    const bytes = new Uint8Array(this.#clusterBytes);
    this.#file.read(bytes, fileOffset);
    return this.#remember(l1Index, { fileOffset, entries: new DataView(bytes.buffer) });
  }

  #createTable(l1Index: number): Table {
    const fileOffset = this.#refcounts.allocate();
    const bytes = new Uint8Array(this.#clusterBytes);
    this.#file.write(bytes, fileOffset);
    this.#l1.setBigUint64(l1Index * 8, BigInt(fileOffset) | FLAG_COPIED);
    this.#file.write(new Uint8Array(this.#l1.buffer, l1Index * 8, 8), this.#l1Offset + l1Index * 8);
    return this.#remember(l1Index, { fileOffset, entries: new DataView(bytes.buffer) });
  }

  #remember(l1Index: number, table: Table): Table {
    const oldest = this.#tables.keys().next();
    if (this.#tables.size >= MAX_CACHED_TABLES && !oldest.done) this.#tables.delete(oldest.value);
    this.#tables.set(l1Index, table);
    return table;
  }
}
