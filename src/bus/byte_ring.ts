/**
 * A queue of bytes in shared memory between one producing and one consuming thread.
 *
 * @module
 */

// Positions only grow (mod 2^32); each has one writer, so an atomic load and store are enough.
const HEAD = 0;
const TAIL = 1;
const HEADER_BYTES = 8;

/** A single-producer, single-consumer byte queue. */
export class ByteRing {
  readonly #positions: Int32Array<SharedArrayBuffer>;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;
  readonly #mask: number;

  /** Uses `buffer` from `byteOffset`; `capacity` is a power of two. See {@linkcode ByteRing.sizeBytes}. */
  constructor(buffer: SharedArrayBuffer, byteOffset: number, capacity: number) {
    this.#positions = new Int32Array(buffer, byteOffset, 2);
    this.#bytes = new Uint8Array(buffer, byteOffset + HEADER_BYTES, capacity);
    this.#mask = capacity - 1;
  }

  /** Shared memory that a ring of `capacity` bytes takes. */
  static sizeBytes(capacity: number): number {
    return HEADER_BYTES + capacity;
  }

  /** Bytes waiting. */
  get length(): number {
    return (Atomics.load(this.#positions, TAIL) - Atomics.load(this.#positions, HEAD)) >>> 0;
  }

  /** Bytes that can be pushed now. */
  get space(): number {
    return this.#bytes.length - this.length;
  }

  /** Producer: appends as many of `bytes` as fit; returns how many. */
  push(bytes: Uint8Array): number {
    const count = Math.min(bytes.byteLength, this.space);
    const tail = Atomics.load(this.#positions, TAIL);
    for (let index = 0; index < count; index++) this.#bytes[(tail + index) & this.#mask] = bytes[index] ?? 0;
    Atomics.store(this.#positions, TAIL, (tail + count) | 0);
    return count;
  }

  /** Consumer: takes one byte, or `undefined`. */
  shift(): number | undefined {
    if (this.length === 0) return undefined;
    const head = Atomics.load(this.#positions, HEAD);
    const byte = this.#bytes[head & this.#mask];
    Atomics.store(this.#positions, HEAD, (head + 1) | 0);
    return byte;
  }

  /** Consumer: takes everything that waits. */
  takeAll(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.length);
    const head = Atomics.load(this.#positions, HEAD);
    for (let index = 0; index < bytes.length; index++) {
      bytes[index] = this.#bytes[(head + index) & this.#mask] ?? 0;
    }
    Atomics.store(this.#positions, HEAD, (head + bytes.length) | 0);
    return bytes;
  }
}
