/**
 * Requests of one disk, many at a time: what lies in files already goes to the kernel's rings and completes in any
 * order; what changes an image's tables is done at once, in order, by this thread.
 *
 * Order kept: a flush covers all that was completed before it was asked for (virtio 1.2 §5.2.6.2). Zeroing may free
 * clusters that a transfer in flight still uses, so it waits for those, and what comes after it waits too.
 *
 * @module
 */

import { ERRNO, SysError } from "../ffi/errno.ts";
import type { IoUring } from "../ffi/io_uring.ts";
import { IOV_MAX } from "../ffi/iovec.ts";
import type { Disk } from "./open_disk.ts";
import { ViewCursor } from "./view_cursor.ts";

type Views = Uint8Array<ArrayBuffer>[];

/** Called once when a request is over; `error` says that the host failed. */
export type OnDone = (error?: unknown) => void;

/** A part of a disk, and where its bytes are: in an open file, or nowhere (they read as zeros). */
export interface FileExtent {
  readonly fd: number | undefined;
  readonly fileOffset: number;
  readonly sizeBytes: number;
}

/** A disk that takes requests without waiting for them. */
export class DiskQueue {
  readonly #disk: Disk;
  readonly #ring: IoUring | undefined;
  #inFlight = 0;
  /** requests in order: the first one waits for the transfers in flight, and the others for it */
  readonly #held: Held[] = [];

  /** Without a ring every request is complete when its call returns. */
  constructor(disk: Disk, ring: IoUring | undefined) {
    this.#disk = disk;
    this.#ring = ring;
  }

  get sizeBytes(): number {
    return this.#disk.sizeBytes;
  }

  get readOnly(): boolean {
    return this.#disk.readOnly;
  }

  /** unit that writes are best aligned to, in bytes */
  get unitBytes(): number {
    return this.#disk.unitBytes;
  }

  /** Fills `views` from the disk. */
  read(views: Views, diskOffset: number, done: OnDone): void {
    this.#inOrder(() => this.#transfer("read", views, diskOffset, done));
  }

  /** Writes `views` to the disk. */
  write(views: Views, diskOffset: number, done: OnDone): void {
    this.#inOrder(() => this.#transfer("write", views, diskOffset, done));
  }

  /** Makes completed writes survive a power cut. */
  flush(done: OnDone): void {
    this.#inOrder(() => {
      const ring = this.#ring;
      if (ring === undefined || ring.room === 0) return settle(done, () => this.#disk.flush());
      this.#inFlight++;
      ring.fdatasync(this.#disk.fd, (result) => this.#completed(done, errorOf("fdatasync", result)));
    });
  }

  /** Makes the range read as zeros, freeing its space if `unmap`. */
  writeZeroes(diskOffset: number, sizeBytes: number, unmap: boolean, done: OnDone): void {
    const start = (): void => settle(done, () => this.#disk.writeZeroes(diskOffset, sizeBytes, unmap));
    this.#held.push({ start, waits: true });
    this.#startHeld();
  }

  /** Waits until every request is over. */
  finish(): void {
    while (this.#inFlight > 0) this.#ring?.finish();
  }

  #inOrder(start: () => void): void {
    this.#held.push({ start, waits: false });
    this.#startHeld();
  }

  #startHeld(): void {
    for (let next = this.#held[0]; next !== undefined; next = this.#held[0]) {
      if (next.waits && this.#inFlight > 0) return;
      this.#held.shift();
      next.start();
    }
  }

  #transfer(kind: "read" | "write", views: Views, diskOffset: number, done: OnDone): void {
    const ring = this.#ring;
    const cursor = new ViewCursor(views);
    const extents = ring && this.#disk.extents(kind, diskOffset, cursor.totalBytes);
    const fits = extents !== undefined && ring !== undefined && extents.length <= ring.room &&
      views.length + extents.length <= IOV_MAX;
    if (!fits) return settle(done, () => this.#disk[kind](views, diskOffset));
    // Counted before any is started: one may complete at once.
    let left = 1;
    let failure: unknown;
    this.#inFlight++;
    const partDone = (error?: unknown): void => {
      failure ??= error;
      if (--left === 0) this.#completed(done, failure);
    };
    let at = diskOffset;
    for (const { fd, fileOffset, sizeBytes } of extents) {
      const part = cursor.take(sizeBytes);
      const partOffset = at;
      at += sizeBytes;
      if (fd === undefined) {
        for (const view of part) view.fill(0);
        continue;
      }
      left++;
      const call = kind === "read" ? ring.readv.bind(ring) : ring.writev.bind(ring);
      call(fd, part, fileOffset, (result) => {
        const error = errorOf(kind, result);
        if (error !== undefined || result === sizeBytes) return partDone(error);
        // Rarely the kernel moves less than was asked for: the part is done again, by this thread.
        settle(partDone, () => this.#disk[kind](part, partOffset));
      });
    }
    partDone();
  }

  #completed(done: OnDone, error: unknown): void {
    this.#inFlight--;
    done(error);
    this.#startHeld();
  }
}

/** A request that was not started yet. */
interface Held {
  readonly start: () => void;
  /** for the transfers in flight to be over */
  readonly waits: boolean;
}

function settle(done: OnDone, work: () => void): void {
  try {
    work();
  } catch (error) {
    return done(error);
  }
  done();
}

function errorOf(syscall: string, result: number): SysError | undefined {
  if (result >= 0) return undefined;
  return new SysError(syscall, result === -ERRNO.EAGAIN ? ERRNO.EIO : -result);
}
