/**
 * Accesses of a vCPU to registers that the io thread owns: a call through shared memory. These are rare (a driver's
 * set-up); what happens for every request or interrupt does not come this way.
 *
 * @module
 */

import type { BusDevice } from "../bus/bus.ts";
import { signalEventFd } from "../ffi/event_fd.ts";
import { CALL } from "./worker_protocol.ts";

const IDLE = 0;
const PENDING = 1;
/** the io thread is gone: calls end at once, and read 0 */
const CLOSED = 2;

/** The vCPU's end: a bus device whose answers come from the io thread. */
export class RegisterCaller implements BusDevice {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #kickFd: number;
  readonly #baseAddr: number;

  /** `baseAddr` is added to offsets, so that the io thread sees guest addresses. */
  constructor(words: Int32Array<SharedArrayBuffer>, kickFd: number, baseAddr: number) {
    this.#words = words;
    this.#kickFd = kickFd;
    this.#baseAddr = baseAddr;
  }

  read(offset: number, size: number): number {
    this.#call(0, offset, size, 0);
    return this.#word(CALL.VALUE_LOW) + this.#word(CALL.VALUE_HIGH) * 2 ** 32;
  }

  write(offset: number, size: number, value: number): void {
    this.#call(1, offset, size, value);
  }

  #word(index: number): number {
    return (this.#words[index] ?? 0) >>> 0;
  }

  #call(isWrite: number, offset: number, size: number, value: number): void {
    const words = this.#words;
    words[CALL.IS_WRITE] = isWrite;
    words[CALL.ADDR] = this.#baseAddr + offset;
    words[CALL.SIZE] = size;
    words[CALL.VALUE_LOW] = value % 2 ** 32;
    words[CALL.VALUE_HIGH] = Math.floor(value / 2 ** 32);
    if (Atomics.compareExchange(words, CALL.STATE, IDLE, PENDING) === CLOSED) {
      words[CALL.VALUE_LOW] = words[CALL.VALUE_HIGH] = 0;
      return;
    }
    signalEventFd(this.#kickFd);
    // The io thread outlives every vCPU thread, and one that threw has its calls closed: this always ends.
    while (Atomics.load(words, CALL.STATE) === PENDING) Atomics.wait(words, CALL.STATE, PENDING);
  }
}

/** The io thread's end: answers a call that waits, from `bus`. */
export function answerRegisterCall(words: Int32Array<SharedArrayBuffer>, bus: {
  read(addr: number, size: number): number;
  write(addr: number, size: number, value: number): unknown;
}): void {
  if (Atomics.load(words, CALL.STATE) !== PENDING) return;
  const word = (index: number): number => (words[index] ?? 0) >>> 0;
  const addr = word(CALL.ADDR);
  const size = word(CALL.SIZE);
  if (word(CALL.IS_WRITE) !== 0) {
    bus.write(addr, size, word(CALL.VALUE_LOW) + word(CALL.VALUE_HIGH) * 2 ** 32);
  } else {
    const value = bus.read(addr, size);
    words[CALL.VALUE_LOW] = value % 2 ** 32;
    words[CALL.VALUE_HIGH] = Math.floor(value / 2 ** 32);
  }
  Atomics.compareExchange(words, CALL.STATE, PENDING, IDLE);
  Atomics.notify(words, CALL.STATE);
}

/** Ends a call that waits, and all later ones: nobody answers any more. */
export function closeRegisterCalls(words: Int32Array<SharedArrayBuffer>): void {
  Atomics.store(words, CALL.STATE, CLOSED);
  Atomics.notify(words, CALL.STATE);
}
