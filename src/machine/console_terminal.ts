/**
 * The terminal behind a virtio console, in shared memory: main types, drains and resizes, the io thread is the device's
 * backend. Each rings the other when there is something new.
 *
 * @module
 */

import type { ConsoleBackend } from "../../devices/virtio_console.ts";
import { ByteRing } from "../bus/byte_ring.ts";

const TO_GUEST_BYTES = 128 * 1024;
const TO_HOST_BYTES = 64 * 1024;
/** words: the window's size, and whether main was told that output waits */
const SIZE = 0;
const TOLD = 1;
const STATE_BYTES = 16;
const DEFAULT_SIZE = (80 << 16) | 24;

/** One end of the terminal. */
export class ConsoleTerminal implements ConsoleBackend {
  static readonly sharedBytes: number = STATE_BYTES + ByteRing.sizeBytes(TO_GUEST_BYTES) +
    ByteRing.sizeBytes(TO_HOST_BYTES);

  readonly #state: Int32Array<SharedArrayBuffer>;
  readonly #toGuest: ByteRing;
  readonly #toHost: ByteRing;
  readonly #ring: () => void;

  /** `ring` tells the other end that there is something new. */
  constructor(shared: SharedArrayBuffer, ring: () => void) {
    this.#state = new Int32Array(shared, 0, STATE_BYTES / 4);
    this.#toGuest = new ByteRing(shared, STATE_BYTES, TO_GUEST_BYTES);
    this.#toHost = new ByteRing(shared, STATE_BYTES + ByteRing.sizeBytes(TO_GUEST_BYTES), TO_HOST_BYTES);
    this.#ring = ring;
  }

  // --- main's end

  /** Bytes typed; returns how many were taken. */
  type(bytes: Uint8Array): number {
    const taken = this.#toGuest.push(bytes);
    if (taken > 0) this.#ring();
    return taken;
  }

  /** What the guest wrote since the last call. */
  drain(): Uint8Array<ArrayBuffer> {
    // Before the bytes are taken: what is written from now on is told anew.
    Atomics.store(this.#state, TOLD, 0);
    const bytes = this.#toHost.takeAll();
    if (bytes.byteLength > 0) this.#ring();
    return bytes;
  }

  /** The window has another size. */
  resize(cols: number, rows: number): void {
    Atomics.store(this.#state, SIZE, (cols << 16) | rows);
    this.#ring();
  }

  // --- the device's end

  get size(): { cols: number; rows: number } {
    const word = Atomics.load(this.#state, SIZE) || DEFAULT_SIZE;
    return { cols: word >>> 16, rows: word & 0xffff };
  }

  takeInput(maxBytes: number): Uint8Array {
    const bytes = new Uint8Array(Math.min(maxBytes, this.#toGuest.length));
    for (let index = 0; index < bytes.byteLength; index++) bytes[index] = this.#toGuest.shift() ?? 0;
    return bytes;
  }

  output(bytes: Uint8Array): number {
    const taken = this.#toHost.push(bytes);
    if (Atomics.exchange(this.#state, TOLD, 1) === 0) this.#ring();
    return taken;
  }
}
