/**
 * Unix stream sockets without blocking, for a poll loop.
 *
 * @module
 */

import { ERRNO, SysError } from "../ffi/errno.ts";
import type { Iovec } from "../ffi/iovec.ts";
import { libc } from "../ffi/libc.ts";
import { check, close, lastErrno, read, readv, writev } from "../ffi/sys.ts";

// linux/socket.h, asm-generic/socket.h
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SHUT_WR = 1;
/** `struct sockaddr_un`: sa_family_t, char sun_path[108] */
const PATH_BYTES = 108;

/** A path that does not fit a socket address. */
export class SocketPathError extends RangeError {
  override readonly name = "SocketPathError";
}

function socketAddress(path: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(path);
  if (bytes.byteLength >= PATH_BYTES) {
    throw new SocketPathError(`Cannot use a socket path of ${bytes.byteLength} bytes`);
  }
  const address = new Uint8Array(2 + PATH_BYTES);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(bytes, 2);
  return address;
}

function newSocket(): number {
  return check(libc.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
}

/** Listens at `path`; returns the file descriptor. */
export function listenUnix(path: string): number {
  const address = socketAddress(path);
  const fd = newSocket();
  try {
    check(libc.bind(fd, address, address.byteLength), `bind "${path}"`);
    check(libc.listen(fd, 128), `listen "${path}"`);
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** Takes a connection that waits; `undefined` if there is none, or if the process has no descriptors left. */
export function acceptUnix(listenFd: number): number | undefined {
  const fd = libc.accept4(listenFd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return fd < 0 ? undefined : fd;
}

/** Connects to `path`; `undefined` if nobody listens there (or its queue is full). */
export function connectUnix(path: string): number | undefined {
  const address = socketAddress(path);
  const fd = newSocket();
  if (libc.connect(fd, address, address.byteLength) === 0) return fd;
  const errno = lastErrno();
  close(fd);
  const absent: readonly number[] = [ERRNO.ENOENT, ERRNO.ECONNREFUSED, ERRNO.EAGAIN];
  if (absent.includes(errno)) return undefined;
  throw new SysError(`connect "${path}"`, errno);
}

/** An open connection. */
export class UnixSocket implements Disposable {
  readonly fd: number;
  readonly #iovec: Iovec;
  #open = true;

  constructor(fd: number, iovec: Iovec) {
    this.fd = fd;
    this.#iovec = iovec;
  }

  /** Bytes read; 0 at the end (a broken connection ends too); `undefined` if nothing waits. */
  readViews(views: Uint8Array<ArrayBuffer>[]): number | undefined {
    return this.#ifWhole(() => readv(this.fd, this.#iovec.bytes, this.#iovec.fill(views)), 0);
  }

  /** One byte, as {@linkcode readViews}. */
  readByte(): number | undefined | "end" {
    const byte = new Uint8Array(1);
    const count = this.#ifWhole(() => read(this.fd, byte), 0);
    if (count === undefined) return undefined;
    return count === 0 ? "end" : byte[0];
  }

  /** Bytes taken, 0 if none can be taken now, `undefined` if the connection is broken. */
  writeViews(views: Uint8Array<ArrayBuffer>[]): number | undefined {
    return this.#ifWhole(() => writev(this.fd, this.#iovec.bytes, this.#iovec.fill(views)) ?? 0, undefined);
  }

  /** Ends our direction. */
  shutdownWrite(): void {
    libc.shutdown(this.fd, SHUT_WR);
  }

  [Symbol.dispose](): void {
    if (this.#open) close(this.fd);
    this.#open = false;
  }

  #ifWhole<T, U>(call: () => T, broken: U): T | U {
    try {
      return call();
    } catch (error) {
      // ECONNRESET, EPIPE, …: whatever it is, this connection is over and nothing else is.
      if (error instanceof SysError) return broken;
      throw error;
    }
  }
}
