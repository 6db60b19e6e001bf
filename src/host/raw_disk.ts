/**
 * A raw disk image, or a block device: bytes as they are.
 *
 * @module
 */

import type { Iovec } from "../ffi/iovec.ts";
import { FALLOC, fallocate, fdatasync } from "../ffi/sys.ts";
import { DiskFile } from "./disk_file.ts";
import type { FileExtent } from "./disk_queue.ts";

/** A disk whose byte n is the file's byte n. */
export class RawDisk implements Disposable {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #file: DiskFile;

  /** @throws {SysError} if the file cannot be opened */
  constructor(path: string, options: { readOnly: boolean; iovec: Iovec }) {
    this.#file = DiskFile.open(path, options);
    this.readOnly = options.readOnly;
    // Whole sectors only: a guest cannot address the rest.
    this.sizeBytes = this.#file.sizeBytes - this.#file.sizeBytes % 512;
  }

  /** page that the host's file systems work in, in bytes */
  get unitBytes(): number {
    return 4096;
  }

  get fd(): number {
    return this.#file.fd;
  }

  /** Where a range of the disk is in files. */
  extents(_kind: "read" | "write", diskOffset: number, sizeBytes: number): FileExtent[] {
    return [{ fd: this.#file.fd, fileOffset: diskOffset, sizeBytes }];
  }

  read(views: Uint8Array<ArrayBuffer>[], diskOffset: number): void {
    this.#file.readViews(views, diskOffset);
  }

  write(views: Uint8Array<ArrayBuffer>[], diskOffset: number): void {
    this.#file.writeViews(views, diskOffset);
  }

  flush(): void {
    fdatasync(this.#file.fd);
  }

  writeZeroes(diskOffset: number, sizeBytes: number, unmap: boolean): void {
    if (sizeBytes === 0) return;
    const mode = unmap ? FALLOC.PUNCH_HOLE | FALLOC.KEEP_SIZE : FALLOC.ZERO_RANGE | FALLOC.KEEP_SIZE;
    if (!fallocate(this.#file.fd, mode, diskOffset, sizeBytes)) this.#file.writeZeroes(diskOffset, sizeBytes);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
