/**
 * Cluster allocation in a qcow2 image: the two-level table of reference counts. Every count is on disk before the
 * cluster is used and after its last use, so that a kill at any moment leaves at worst a cluster that is counted
 * and not used (a leak), never one that is used and not counted.
 *
 * @module
 */

import type { DiskFile } from "./disk_file.ts";
import { Qcow2Error, type Qcow2Header } from "./qcow2_header.ts";

/** bytes of a count: refcount_order 4 */
const COUNT_BYTES = 2;

/** Hands out and takes back clusters. */
export class Qcow2Refcounts {
  readonly #file: DiskFile;
  readonly #clusterBytes: number;
  readonly #tableOffset: number;
  readonly #table: DataView;
  readonly #blocks = new Map<number, DataView>();
  /** clusters given back, to be used again before the file grows */
  readonly #free: number[] = [];
  #end: number;

  constructor(file: DiskFile, header: Qcow2Header) {
    this.#file = file;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#tableOffset = header.refcountTableOffset;
    const table = new Uint8Array(header.refcountTableClusters * this.#clusterBytes);
    file.read(table, header.refcountTableOffset);
    this.#table = new DataView(table.buffer);
    this.#end = Math.ceil(file.sizeBytes / this.#clusterBytes);
  }

  /** A cluster with count 1: its file offset. Its content is undefined. */
  allocate(): number {
    const reused = this.#free.pop();
    if (reused !== undefined) {
      this.#setCount(reused, 1);
      return reused * this.#clusterBytes;
    }
    // Making the block may itself take the cluster that we looked at.
    while (this.#block(this.#end) === undefined) this.#createBlock(this.#end);
    const cluster = this.#end++;
    this.#setCount(cluster, 1);
    return cluster * this.#clusterBytes;
  }

  /** Drops one reference to the cluster at `fileOffset`. */
  release(fileOffset: number): void {
    const cluster = Math.floor(fileOffset / this.#clusterBytes);
    const count = this.#block(cluster)?.getUint16(this.#indexInBlock(cluster) * COUNT_BYTES) ?? 0;
    if (count === 0) throw new Qcow2Error(`Damaged qcow2 image: cluster ${cluster} is used but not counted`);
    this.#setCount(cluster, count - 1);
    if (count === 1) this.#free.push(cluster);
  }

  get #countsPerBlock(): number {
    return this.#clusterBytes / COUNT_BYTES;
  }

  #indexInBlock(cluster: number): number {
    return cluster % this.#countsPerBlock;
  }

  #setCount(cluster: number, count: number): void {
    const block = this.#block(cluster);
    if (block === undefined) throw new Qcow2Error(`Damaged qcow2 image: cluster ${cluster} has no count`);
    const at = this.#indexInBlock(cluster) * COUNT_BYTES;
    block.setUint16(at, count);
    const blockOffset = this.#blockOffset(Math.floor(cluster / this.#countsPerBlock));
    this.#file.write(new Uint8Array(block.buffer as ArrayBuffer, at, COUNT_BYTES), blockOffset + at);
  }

  #blockOffset(index: number): number {
    if ((index + 1) * 8 > this.#table.byteLength) {
      throw new Qcow2Error("Cannot grow the image: its refcount table is full");
    }
    const offset = Number(this.#table.getBigUint64(index * 8));
    if (offset % this.#clusterBytes !== 0) {
      throw new Qcow2Error("Damaged qcow2 image: a refcount block is misaligned");
    }
    return offset;
  }

  #block(cluster: number): DataView | undefined {
    const index = Math.floor(cluster / this.#countsPerBlock);
    const cached = this.#blocks.get(index);
    if (cached !== undefined) return cached;
    const offset = this.#blockOffset(index);
    if (offset === 0) return undefined;
    const bytes = new Uint8Array(this.#clusterBytes);
    this.#file.read(bytes, offset);
    const block = new DataView(bytes.buffer);
    this.#blocks.set(index, block);
    return block;
  }

  /** Makes the block that counts `cluster`, in `cluster` itself: then it counts itself from the start. */
  #createBlock(cluster: number): void {
    const index = Math.floor(cluster / this.#countsPerBlock);
    const block = new DataView(new ArrayBuffer(this.#clusterBytes));
    block.setUint16(this.#indexInBlock(cluster) * COUNT_BYTES, 1);
    const offset = cluster * this.#clusterBytes;
    this.#file.write(new Uint8Array(block.buffer), offset);
    this.#end = cluster + 1;
    this.#table.setBigUint64(index * 8, BigInt(offset));
    const entry = new Uint8Array(this.#table.buffer as ArrayBuffer, index * 8, 8);
    this.#file.write(entry, this.#tableOffset + index * 8);
    this.#blocks.set(index, block);
  }
}
