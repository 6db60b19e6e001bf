/**
 * A 16550A serial port. Its registers live in shared memory, as any vCPU and the console's thread touch them.
 *
 * The guest controls every port access; nothing here sizes or indexes host memory by a guest's value. What it
 * writes goes into a bounded ring: when the host does not drain it, "transmitter empty" stays off and the guest
 * waits. What is typed waits in a larger ring, so that a paste arrives whole however slow the guest reads.
 * Registers and bits: National Semiconductor PC16550D data sheet, §8.
 *
 * @module
 */

import type { BusDevice } from "../src/bus/bus.ts";
import { ByteRing } from "../src/bus/byte_ring.ts";
import type { IrqLine } from "../src/bus/irq_line.ts";

const LCR_DLAB = 0x80;
const IER_RECEIVED = 1;
const IER_TRANSMITTER = 2;
const IIR_NONE = 1;
const IIR_TRANSMITTER = 2;
const IIR_RECEIVED = 4;
const IIR_FIFO_ENABLED = 0xc0;
const FCR_ENABLE = 1;
const LSR_DATA_READY = 1;
const LSR_TRANSMITTER_EMPTY = 0x60;
const MCR_LOOP = 0x10;
/** carrier detect, data set ready, clear to send */
const MSR_CONNECTED = 0xb0;

/** Host bytes that wait for the guest: a 64 KiB paste, twice. */
const TO_GUEST_BYTES = 128 * 1024;
/** Guest bytes that wait for the host. */
const TO_HOST_BYTES = 64 * 1024;

// Words of the shared state
const LOCK = 0;
const IER = 1;
const LCR = 2;
const MCR = 3;
const SCRATCH = 4;
const DIVISOR_LOW = 5;
const DIVISOR_HIGH = 6;
const FCR = 7;
const TRANSMITTER_PENDING = 8;
const IRQ_LEVEL = 9;
const HOST_AWAKE = 10;
const STATE_BYTES = 64;

/** One end of the port: the vCPU threads' end is a bus device, the console thread's end types and drains. */
export class Serial implements BusDevice {
  static readonly sharedBytes: number = STATE_BYTES + ByteRing.sizeBytes(TO_GUEST_BYTES) +
    ByteRing.sizeBytes(TO_HOST_BYTES);

  readonly #state: Int32Array<SharedArrayBuffer>;
  readonly #toGuest: ByteRing;
  readonly #toHost: ByteRing;
  readonly #irq: IrqLine;
  readonly #wakeHost: () => void;

  /** `wakeHost` is called when output waits and the console thread has not been told yet. */
  constructor(shared: SharedArrayBuffer, irq: IrqLine, wakeHost: () => void) {
    this.#state = new Int32Array(shared, 0, STATE_BYTES / 4);
    this.#toGuest = new ByteRing(shared, STATE_BYTES, TO_GUEST_BYTES);
    this.#toHost = new ByteRing(shared, STATE_BYTES + ByteRing.sizeBytes(TO_GUEST_BYTES), TO_HOST_BYTES);
    this.#irq = irq;
    this.#wakeHost = wakeHost;
  }

  read(offset: number): number {
    return this.#locked(() => this.#readRegister(offset));
  }

  write(offset: number, _size: number, value: number): void {
    this.#locked(() => this.#writeRegister(offset, value & 0xff));
  }

  /** Console thread: types `bytes`; returns how many were taken. */
  type(bytes: Uint8Array): number {
    return this.#locked(() => this.#toGuest.push(bytes));
  }

  /** Console thread: takes what the guest wrote. */
  drain(): Uint8Array<ArrayBuffer> {
    // Cleared before the ring is read: output after this wakes us again.
    Atomics.store(this.#state, HOST_AWAKE, 0);
    const wasFull = this.#toHost.space === 0;
    const bytes = this.#toHost.takeAll();
    if (wasFull) this.#locked(() => this.#set(TRANSMITTER_PENDING, 1));
    return bytes;
  }

  #get(word: number): number {
    return this.#state[word] ?? 0;
  }

  #set(word: number, value: number): void {
    this.#state[word] = value;
  }

  /** Runs `work` alone, then interrupts the guest if a reason for it came up. Held for nanoseconds: spinning is right. */
  #locked<T>(work: () => T): T {
    while (Atomics.compareExchange(this.#state, LOCK, 0, 1) !== 0);
    let edge: boolean;
    let result: T;
    try {
      result = work();
      const level = this.#pendingCause() === IIR_NONE ? 0 : 1;
      edge = level > this.#get(IRQ_LEVEL);
      this.#set(IRQ_LEVEL, level);
    } finally {
      Atomics.store(this.#state, LOCK, 0);
    }
    if (edge) this.#irq.trigger();
    return result;
  }

  #pendingCause(): number {
    const enabled = this.#get(IER);
    if ((enabled & IER_RECEIVED) !== 0 && this.#toGuest.length > 0) return IIR_RECEIVED;
    if ((enabled & IER_TRANSMITTER) !== 0 && this.#get(TRANSMITTER_PENDING) !== 0) return IIR_TRANSMITTER;
    return IIR_NONE;
  }

  get #divisorAccess(): boolean {
    return (this.#get(LCR) & LCR_DLAB) !== 0;
  }

  #readRegister(offset: number): number {
    switch (offset) {
      case 0:
        return this.#divisorAccess ? this.#get(DIVISOR_LOW) : this.#toGuest.shift() ?? 0;
      case 1:
        return this.#divisorAccess ? this.#get(DIVISOR_HIGH) : this.#get(IER);
      case 2:
        return this.#identifyInterrupt();
      case 3:
        return this.#get(LCR);
      case 4:
        return this.#get(MCR);
      case 5:
        return (this.#toGuest.length > 0 ? LSR_DATA_READY : 0) |
          (this.#toHost.space > 0 ? LSR_TRANSMITTER_EMPTY : 0);
      case 6:
        return this.#modemStatus();
      case 7:
        return this.#get(SCRATCH);
      default:
        return 0xff;
    }
  }

  #identifyInterrupt(): number {
    const cause = this.#pendingCause();
    // Reading this register is what clears a transmitter interrupt.
    if (cause === IIR_TRANSMITTER) this.#set(TRANSMITTER_PENDING, 0);
    return cause | ((this.#get(FCR) & FCR_ENABLE) !== 0 ? IIR_FIFO_ENABLED : 0);
  }

  #modemStatus(): number {
    const mcr = this.#get(MCR);
    if ((mcr & MCR_LOOP) === 0) return MSR_CONNECTED;
    // In loop-back the outputs come back as inputs: RTS→CTS, DTR→DSR, OUT1→RI, OUT2→DCD.
    return ((mcr & 2) << 3) | ((mcr & 1) << 5) | ((mcr & 4) << 4) | ((mcr & 8) << 4);
  }

  #writeRegister(offset: number, value: number): void {
    switch (offset) {
      case 0:
        return this.#divisorAccess ? this.#set(DIVISOR_LOW, value) : this.#transmit(value);
      case 1:
        if (this.#divisorAccess) return this.#set(DIVISOR_HIGH, value);
        // Enabling the transmitter interrupt while the transmitter is empty raises it.
        if ((value & ~this.#get(IER) & IER_TRANSMITTER) !== 0) this.#set(TRANSMITTER_PENDING, 1);
        return this.#set(IER, value & 0x0f);
      case 2:
        // The clear bits have nothing to clear: bytes leave the host's queue one by one as they are read.
        return this.#set(FCR, value);
      case 3:
        return this.#set(LCR, value);
      case 4:
        return this.#set(MCR, value & 0x1f);
      case 7:
        return this.#set(SCRATCH, value);
    }
  }

  #transmit(byte: number): void {
    if ((this.#get(MCR) & MCR_LOOP) !== 0) return;
    // A guest that writes although the transmitter is not empty loses the byte, as on the wire.
    this.#toHost.push(Uint8Array.of(byte));
    if (this.#toHost.space > 0) this.#set(TRANSMITTER_PENDING, 1);
    if (Atomics.exchange(this.#state, HOST_AWAKE, 1) === 0) this.#wakeHost();
  }
}
