/**
 * System calls with their errors checked: each throws {@linkcode SysError}, retries `EINTR` where nobody wants
 * to see it, and speaks in numbers (file offsets and sizes are below 2^53).
 *
 * @module
 */

import { ERRNO, SysError } from "./errno.ts";
import { libc } from "./libc.ts";

/** Flags of `open(2)`, asm-generic/fcntl.h. */
export const O = {
  RDONLY: 0,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  TRUNC: 0o1000,
  NONBLOCK: 0o4000,
  CLOEXEC: 0o2000000,
} as const;

/** Modes of `fallocate(2)`, linux/falloc.h. */
export const FALLOC = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 0x10 } as const;

// SAFETY: errno's address is constant for the thread that this isolate is bound to, and lives as long as it.
const errnoAddr = libc.__errno_location();
const errnoView = errnoAddr === null ? undefined : new Deno.UnsafePointerView(errnoAddr);

/** `errno` of this thread: to be read in the statement right after the failed call. */
export function lastErrno(): number {
  return errnoView?.getInt32() ?? 0;
}

/**
 * Passes a call's result on, or throws what `errno` says.
 *
 * @throws {SysError} if `result` is negative
 */
export function check(result: number, syscall: string): number {
  if (result >= 0) return result;
  throw new SysError(syscall, lastErrno());
}

/** A C string: the bytes of `text` and a terminating zero. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/** Opens `path`; close-on-exec is always set. Returns the file descriptor. */
export function open(path: string, flags: number, mode = 0o600): number {
  return check(libc.open(cString(path), flags | O.CLOEXEC, mode), `open "${path}"`);
}

/** Closes a file descriptor. The number is free afterwards whatever the kernel answers, so errors are not reported. */
export function close(fd: number): void {
  libc.close(fd);
}

type Transfer = () => number | bigint;

/** Runs one read or write call until it is not interrupted; `undefined` means that it would block. */
function transfer(syscall: string, call: Transfer): number | undefined {
  for (;;) {
    const result = Number(call());
    if (result >= 0) return result;
    const errno = lastErrno();
    if (errno === ERRNO.EAGAIN) return undefined;
    if (errno !== ERRNO.EINTR) throw new SysError(syscall, errno);
  }
}

/** Reads into `buffer`; returns the byte count, 0 at the end, or `undefined` if nothing is there yet. */
export function read(fd: number, buffer: Uint8Array<ArrayBuffer>): number | undefined {
  return transfer("read", () => libc.read(fd, buffer, BigInt(buffer.byteLength)));
}

/** Writes from `buffer`; returns the byte count, or `undefined` if nothing can be taken now. */
export function write(fd: number, buffer: Uint8Array<ArrayBuffer>): number | undefined {
  return transfer("write", () => libc.write(fd, buffer, BigInt(buffer.byteLength)));
}

/** Reads at a file offset; returns the byte count (0 at the end of the file). */
export function pread(fd: number, buffer: Uint8Array<ArrayBuffer>, fileOffset: number): number {
  return transfer("pread", () => libc.pread(fd, buffer, BigInt(buffer.byteLength), BigInt(fileOffset))) ?? 0;
}

/** Writes at a file offset; returns the byte count. */
export function pwrite(fd: number, buffer: Uint8Array<ArrayBuffer>, fileOffset: number): number {
  return transfer("pwrite", () => libc.pwrite(fd, buffer, BigInt(buffer.byteLength), BigInt(fileOffset))) ??
    0;
}

/** `readv(2)` of `count` entries of an iovec array. */
export function readv(fd: number, iovec: Uint8Array<ArrayBuffer>, count: number): number | undefined {
  return transfer("readv", () => libc.readv(fd, iovec, count));
}

/** `writev(2)` of `count` entries of an iovec array. */
export function writev(fd: number, iovec: Uint8Array<ArrayBuffer>, count: number): number | undefined {
  return transfer("writev", () => libc.writev(fd, iovec, count));
}

/** `preadv(2)` of `count` entries of an iovec array. */
export function preadv(
  fd: number,
  iovec: Uint8Array<ArrayBuffer>,
  count: number,
  fileOffset: number,
): number {
  return transfer("preadv", () => libc.preadv(fd, iovec, count, BigInt(fileOffset))) ?? 0;
}

/** `pwritev(2)` of `count` entries of an iovec array. */
export function pwritev(
  fd: number,
  iovec: Uint8Array<ArrayBuffer>,
  count: number,
  fileOffset: number,
): number {
  return transfer("pwritev", () => libc.pwritev(fd, iovec, count, BigInt(fileOffset))) ?? 0;
}

/** Forces written data to the disk. */
export function fdatasync(fd: number): void {
  check(libc.fdatasync(fd), "fdatasync");
}

/** Sets a file's size. */
export function ftruncate(fd: number, sizeBytes: number): void {
  check(libc.ftruncate(fd, BigInt(sizeBytes)), "ftruncate");
}

/** `fallocate(2)`; false if the file system cannot do it. */
export function fallocate(fd: number, mode: number, fileOffset: number, sizeBytes: number): boolean {
  if (libc.fallocate(fd, mode, BigInt(fileOffset), BigInt(sizeBytes)) >= 0) return true;
  const errno = lastErrno();
  if (errno === ERRNO.EOPNOTSUPP || errno === ERRNO.ENODEV) return false;
  throw new SysError("fallocate", errno);
}

/** Advice of `madvise(2)`, asm-generic/mman-common.h. */
export const MADV = { DONTNEED: 4, REMOVE: 9, HUGEPAGE: 14 } as const;

/** Advises the kernel on `sizeBytes` of this process's memory at `hostAddr`. */
export function madvise(hostAddr: bigint, sizeBytes: number, advice: number): void {
  check(libc.madvise(hostAddr, BigInt(sizeBytes), advice), "madvise");
}

const SEEK_END = 2;

/** Size of an open file or block device in bytes. */
export function sizeOf(fd: number): number {
  return check(Number(libc.lseek(fd, 0n, SEEK_END)), "lseek");
}

/** `ioctl(2)` with an integer argument. */
export function ioctlValue(fd: number, request: bigint, value: bigint, syscall: string): number {
  return check(libc.ioctl_value(fd, request, value), syscall);
}

/** `ioctl(2)` with a structure, which the kernel reads or fills. */
export function ioctlBuffer(
  fd: number,
  request: bigint,
  buffer: Uint8Array<ArrayBuffer>,
  syscall: string,
): number {
  return check(libc.ioctl_buffer(fd, request, buffer), syscall);
}

/** Thread id of the calling thread. */
export function gettid(): number {
  return libc.gettid();
}

/** Sends a signal to one thread of this process; false if that thread is gone. */
export function signalThread(tid: number, signal: number): boolean {
  return libc.tgkill(libc.getpid(), tid, signal) === 0;
}
