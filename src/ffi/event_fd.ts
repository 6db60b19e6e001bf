/**
 * Event file descriptors: what the kernel and the threads ring each other with.
 *
 * @module
 */

import { libc } from "./libc.ts";
import { check, close, read, write } from "./sys.ts";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

/** Adds one to an eventfd that another thread owns. */
export function signalEventFd(fd: number): void {
  write(fd, ONE);
}

const ONE = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);

/** An eventfd that this object owns. */
export class EventFd implements Disposable {
  readonly fd: number;

  constructor() {
    this.fd = check(libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  }

  /** Adds one; never blocks. */
  signal(): void {
    signalEventFd(this.fd);
  }

  /** Resets the count; true if it was not zero. */
  drain(): boolean {
    return drainEventFd(this.fd);
  }

  [Symbol.dispose](): void {
    close(this.fd);
  }
}

/** Resets the count of an eventfd that another thread owns. */
export function drainEventFd(fd: number): boolean {
  return read(fd, SCRATCH) === 8;
}

const SCRATCH = new Uint8Array(8);
