/**
 * An open image file: reads and writes that are complete when they return.
 *
 * @module
 */

import { ERRNO, SysError } from "../ffi/errno.ts";
import { IOV_MAX, type Iovec } from "../ffi/iovec.ts";
import { close, ftruncate, O, open, pread, preadv, pwrite, pwritev, sizeOf } from "../ffi/sys.ts";

/** Bytes of zeros written at once where the file system cannot make a hole. */
const ZERO_BYTES = 1024 * 1024;

type Views = readonly Uint8Array<ArrayBuffer>[];

/** A file that holds a disk, or the parts of one. */
export class DiskFile implements Disposable {
  readonly fd: number;
  readonly #iovec: Iovec;

  private constructor(fd: number, iovec: Iovec) {
    this.fd = fd;
    this.#iovec = iovec;
  }

  /** Opens an existing file. */
  static open(path: string, options: { readOnly: boolean; iovec: Iovec }): DiskFile {
    return new DiskFile(open(path, options.readOnly ? O.RDONLY : O.RDWR), options.iovec);
  }

  /** Makes a new file; fails with EEXIST if there is one. */
  static create(path: string, iovec: Iovec): DiskFile {
    return new DiskFile(open(path, O.RDWR | O.CREAT | O.EXCL), iovec);
  }

  get sizeBytes(): number {
    return sizeOf(this.fd);
  }

  /** Reads `bytes.byteLength` bytes; beyond the end of the file there are zeros. */
  read(bytes: Uint8Array<ArrayBuffer>, fileOffset: number): void {
    let done = 0;
    while (done < bytes.byteLength) {
      const count = pread(this.fd, bytes.subarray(done), fileOffset + done);
      if (count === 0) {
        bytes.fill(0, done);
        return;
      }
      done += count;
    }
  }

  /** Writes all of `bytes`. */
  write(bytes: Uint8Array<ArrayBuffer>, fileOffset: number): void {
    let done = 0;
    while (done < bytes.byteLength) {
      const count = pwrite(this.fd, bytes.subarray(done), fileOffset + done);
      if (count === 0) throw new SysError("pwrite", ERRNO.EIO);
      done += count;
    }
  }

  /** Fills `views`, one after the other, from the file. */
  readViews(views: Views, fileOffset: number): void {
    this.#transfer(views, fileOffset, preadv, (view, at) => this.read(view, at));
  }

  /** Writes `views`, one after the other, to the file. */
  writeViews(views: Views, fileOffset: number): void {
    this.#transfer(views, fileOffset, pwritev, (view, at) => this.write(view, at));
  }

  /** Writes zeros. */
  writeZeroes(fileOffset: number, sizeBytes: number): void {
    const zeros = new Uint8Array(Math.min(sizeBytes, ZERO_BYTES));
    for (let done = 0; done < sizeBytes; done += zeros.byteLength) {
      this.write(zeros.subarray(0, Math.min(zeros.byteLength, sizeBytes - done)), fileOffset + done);
    }
  }

  /** Sets the file's size. */
  truncate(sizeBytes: number): void {
    ftruncate(this.fd, sizeBytes);
  }

  [Symbol.dispose](): void {
    close(this.fd);
  }

  /** One vector call; what it left undone (rarely anything) is finished view by view. */
  #transfer(
    views: Views,
    fileOffset: number,
    call: typeof preadv,
    rest: (view: Uint8Array<ArrayBuffer>, fileOffset: number) => void,
  ): void {
    for (let first = 0; first < views.length; first += IOV_MAX) {
      const batch = views.slice(first, first + IOV_MAX);
      let done = call(this.fd, this.#iovec.bytes, this.#iovec.fill(batch), fileOffset);
      for (const view of batch) {
        const already = Math.min(done, view.byteLength);
        if (already < view.byteLength) rest(view.subarray(already), fileOffset + already);
        done -= already;
        fileOffset += view.byteLength;
      }
    }
  }
}
