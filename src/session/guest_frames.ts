/**
 * Frames of the guest control protocol: `u8 type, u32le length, payload`. One connection carries one
 * operation; the guest's init speaks the same on its side (`guest-module/init`). What comes from the guest is
 * checked here before anything acts on it: a frame too long or cut short ends the connection.
 *
 * @module
 */

/** Longest payload either side accepts, in bytes. */
export const MAX_PAYLOAD_BYTES = 65536;
/** Payload size used for bulk data, in bytes. */
export const DATA_PAYLOAD_BYTES = 32768;
const HEADER_BYTES = 5;

/** One frame; `type` is an ASCII letter. */
export interface GuestFrame {
  readonly type: string;
  readonly payload: Uint8Array;
}

/** The guest does not keep to the protocol. */
export class GuestProtocolError extends Error {
  override readonly name = "GuestProtocolError";
}

/** What frames are read from. */
export interface ByteSource {
  /** Reads at least one byte into `buffer`; null at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
}

/** Encodes a frame. */
export function encodeFrame(type: string, payload: Uint8Array = new Uint8Array()): Uint8Array {
  if (type.length !== 1) throw new RangeError(`Cannot encode frame type "${type}"`);
  if (payload.length > MAX_PAYLOAD_BYTES) {
    throw new RangeError(`Cannot encode a frame of ${payload.length} bytes: limit is ${MAX_PAYLOAD_BYTES}`);
  }
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  frame[0] = type.charCodeAt(0);
  frame.set(encodeU32(payload.length), 1);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** A number as four little-endian bytes. */
export function encodeU32(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff);
}

/** Reads a little-endian u32 at `offset`. */
export function decodeU32(bytes: Uint8Array, offset: number): number {
  if (offset + 4 > bytes.length) throw new GuestProtocolError("Cannot read a number: payload is too short");
  const [a = 0, b = 0, c = 0, d = 0] = bytes.subarray(offset, offset + 4);
  return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
}

/** Reads a little-endian i32 at `offset`. */
export function decodeI32(bytes: Uint8Array, offset: number): number {
  return decodeU32(bytes, offset) | 0;
}

/** Encodes request words: NUL-terminated `key=value` strings. */
export function encodeWords(words: readonly (readonly [key: string, value: string])[]): Uint8Array {
  let text = "";
  for (const [key, value] of words) {
    if (value.includes("\0")) throw new RangeError(`Cannot send "${key}" to the guest: value holds a NUL`);
    text += `${key}=${value}\0`;
  }
  return new TextEncoder().encode(text);
}

/** Decodes `key=value` words of the guest; a word without `=` is refused. */
export function decodeWords(payload: Uint8Array): Map<string, string> {
  const words = new Map<string, string>();
  for (const word of new TextDecoder().decode(payload).split("\0")) {
    if (word === "") continue;
    const at = word.indexOf("=");
    if (at < 1) throw new GuestProtocolError("Cannot read guest's words: one has no key");
    words.set(word.slice(0, at), word.slice(at + 1));
  }
  return words;
}

/** Reads frames from a byte source, whatever pieces the bytes come in. */
export class FrameReader {
  readonly #source: ByteSource;
  readonly #buffer = new Uint8Array(HEADER_BYTES + MAX_PAYLOAD_BYTES);
  #length = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /**
   * The next frame, or undefined at a clean end.
   *
   * @throws {GuestProtocolError} on a frame that is too long or cut short
   */
  async next(): Promise<GuestFrame | undefined> {
    if (!await this.#fill(HEADER_BYTES)) {
      if (this.#length === 0) return undefined;
      throw new GuestProtocolError("Cannot read a frame: connection ended inside its header");
    }
    const payloadBytes = decodeU32(this.#buffer, 1);
    if (payloadBytes > MAX_PAYLOAD_BYTES) {
      throw new GuestProtocolError(
        `Cannot read a frame: length ${payloadBytes} is over ${MAX_PAYLOAD_BYTES}`,
      );
    }
    const frameBytes = HEADER_BYTES + payloadBytes;
    if (!await this.#fill(frameBytes)) {
      throw new GuestProtocolError("Cannot read a frame: connection ended inside its payload");
    }
    const type = String.fromCharCode(this.#buffer[0] ?? 0);
    const payload = this.#buffer.slice(HEADER_BYTES, frameBytes);
    this.#buffer.copyWithin(0, frameBytes, this.#length);
    this.#length -= frameBytes;
    return { type, payload };
  }

  /** Takes the bytes that were read from the source and belong to no frame yet. */
  rest(): Uint8Array {
    const rest = this.#buffer.slice(0, this.#length);
    this.#length = 0;
    return rest;
  }

  async #fill(byteCount: number): Promise<boolean> {
    while (this.#length < byteCount) {
      const read = await this.#source.read(this.#buffer.subarray(this.#length));
      if (read === null) return false;
      this.#length += read;
    }
    return true;
  }
}
