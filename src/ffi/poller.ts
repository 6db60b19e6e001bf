/**
 * A synchronous event loop over `epoll(7)`, for Workers that wait on file descriptors.
 *
 * @module
 */

import { ERRNO, SysError } from "./errno.ts";
import { libc } from "./libc.ts";
import { check, close, lastErrno } from "./sys.ts";

/** Event bits, linux/eventpoll.h. */
export const EPOLL = { IN: 1, OUT: 4, ERR: 8, HUP: 0x10, RDHUP: 0x2000 } as const;

const EPOLL_CLOEXEC = 0o2000000;
const CTL_ADD = 1;
const CTL_DEL = 2;
const CTL_MOD = 3;

/** `struct epoll_event` is packed on x86-64: u32 events, u64 data. */
const EVENT_SIZE = 12;
const MAX_EVENTS = 64;

/** Called with the event bits that are ready. */
export type PollHandler = (events: number) => void;

interface Timer {
  readonly dueMs: number;
  readonly handler: () => void;
}

/** Level-triggered readiness of many file descriptors, each with its handler. */
export class Poller implements Disposable {
  readonly #epollFd: number;
  readonly #handlers = new Map<number, PollHandler>();
  readonly #timers: Timer[] = [];
  readonly #roundEnds: (() => void)[] = [];
  readonly #ready = new DataView(new ArrayBuffer(EVENT_SIZE * MAX_EVENTS));
  readonly #readyBytes = new Uint8Array(this.#ready.buffer);
  readonly #control = new DataView(new ArrayBuffer(EVENT_SIZE));
  readonly #controlBytes = new Uint8Array(this.#control.buffer);

  constructor() {
    this.#epollFd = check(libc.epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  }

  /** Watches `fd` for `events`. The caller keeps it open until {@linkcode remove}. */
  add(fd: number, events: number, handler: PollHandler): void {
    this.#ctl(CTL_ADD, fd, events);
    this.#handlers.set(fd, handler);
  }

  /** Changes the events that `fd` is watched for (0: none but errors). */
  modify(fd: number, events: number): void {
    this.#ctl(CTL_MOD, fd, events);
  }

  /** Stops watching `fd`. */
  remove(fd: number): void {
    if (this.#handlers.delete(fd)) this.#ctl(CTL_DEL, fd, 0);
  }

  /** Calls `handler` once, `delayMs` from now or a little later. */
  after(delayMs: number, handler: () => void): void {
    this.#timers.push({ dueMs: performance.now() + delayMs, handler });
  }

  /** Calls `handler` at the end of every round: what the round's handlers have gathered goes off together. */
  atRoundEnd(handler: () => void): void {
    this.#roundEnds.push(handler);
  }

  /** Waits once, at most `timeoutMs` (-1: for ever), and calls the handlers of what is ready or due. */
  poll(timeoutMs: number): void {
    const count = libc.epoll_wait(this.#epollFd, this.#readyBytes, MAX_EVENTS, this.#untilTimer(timeoutMs));
    if (count < 0) {
      const errno = lastErrno();
      if (errno === ERRNO.EINTR) return;
      throw new SysError("epoll_wait", errno);
    }
    for (let index = 0; index < count; index++) {
      const events = this.#ready.getUint32(index * EVENT_SIZE, true);
      // A handler may have removed a later one of the same round: then there is nobody to call.
      this.#handlers.get(this.#ready.getInt32(index * EVENT_SIZE + 4, true))?.(events);
    }
    this.#runTimers();
    for (const handler of this.#roundEnds) handler();
  }

  #untilTimer(timeoutMs: number): number {
    if (this.#timers.length === 0) return timeoutMs;
    const next = Math.min(...this.#timers.map(({ dueMs }) => dueMs)) - performance.now();
    const wait = Math.max(0, Math.ceil(next));
    return timeoutMs < 0 ? wait : Math.min(timeoutMs, wait);
  }

  #runTimers(): void {
    if (this.#timers.length === 0) return;
    const now = performance.now();
    const due = this.#timers.filter(({ dueMs }) => dueMs <= now);
    for (const timer of due) {
      this.#timers.splice(this.#timers.indexOf(timer), 1);
      timer.handler();
    }
  }

  [Symbol.dispose](): void {
    close(this.#epollFd);
  }

  #ctl(operation: number, fd: number, events: number): void {
    this.#control.setUint32(0, events, true);
    this.#control.setInt32(4, fd, true);
    check(libc.epoll_ctl(this.#epollFd, operation, fd, this.#controlBytes), "epoll_ctl");
  }
}
