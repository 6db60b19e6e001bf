/**
 * Reads the name that a TLS client wants to speak to out of its ClientHello (RFC 8446 §4.1.2, RFC 6066 §3): from
 * a stranger's bytes, before anything is connected.
 *
 * @module
 */

/** Record and handshake types: RFC 8446 §5.1, §4. */
const RECORD_HANDSHAKE = 22;
const HANDSHAKE_CLIENT_HELLO = 1;
const RECORD_HEADER_BYTES = 5;
const HANDSHAKE_HEADER_BYTES = 4;
/** RFC 8446 §5.1. */
const MAX_RECORD_BYTES = 2 ** 14;
/** A ClientHello with post-quantum keys has 2 KiB; one of more than this is made to be a burden. */
export const MAX_HELLO_BYTES = 32 * 1024;
const EXTENSION_SERVER_NAME = 0;
/** `encrypted_client_hello`, RFC 9849; the older drafts' numbers are other extensions' business. */
const EXTENSION_ECH = 0xfe0d;
const NAME_TYPE_HOST = 0;

/** What was found in the bytes so far. */
export type ClientHello =
  /** more bytes are needed */
  | { readonly kind: "incomplete" }
  | {
    readonly kind: "hello";
    /** name in the clear (undefined: the client gave none) */
    readonly serverName: string | undefined;
    /** a second ClientHello is hidden inside, or pretends to be */
    readonly isEncrypted: boolean;
  }
  | { readonly kind: "bad"; readonly reason: string };

class BadHello extends Error {}

/** Reads big-endian numbers and byte strings one after the other; what is not there throws. */
class Cursor {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  take(count: number): Uint8Array {
    if (this.#at + count > this.#bytes.length) throw new BadHello("a length goes beyond its end");
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  uint(byteCount: number): number {
    return this.take(byteCount).reduce((value, byte) => value * 256 + byte, 0);
  }

  /** a string with its length before it */
  vector(lengthBytes: number): Uint8Array {
    return this.take(this.uint(lengthBytes));
  }
}

/** Where the message that `joined` starts with ends; undefined: that cannot be said yet. */
function messageEnd(joined: Uint8Array): number | undefined {
  if (joined.length > 0 && joined[0] !== HANDSHAKE_CLIENT_HELLO) {
    throw new BadHello("it is not a ClientHello");
  }
  if (joined.length < HANDSHAKE_HEADER_BYTES) return undefined;
  const size = new Cursor(joined.subarray(1)).uint(3);
  if (size > MAX_HELLO_BYTES) throw new BadHello("it is too long");
  return HANDSHAKE_HEADER_BYTES + size;
}

/** The body of the handshake message in its records; undefined: not all of it is there. */
function joinRecords(bytes: Uint8Array): Uint8Array | undefined {
  const joined = new Uint8Array(bytes.length);
  let length = 0;
  for (let at = 0; at + RECORD_HEADER_BYTES <= bytes.length;) {
    const [type = 0, major = 0, , high = 0, low = 0] = bytes.subarray(at, at + RECORD_HEADER_BYTES);
    const size = high * 256 + low;
    if (type !== RECORD_HANDSHAKE || major !== 3) throw new BadHello("a record is not a handshake");
    if (size === 0 || size > MAX_RECORD_BYTES) throw new BadHello("a record has a wrong length");
    const part = bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + size);
    joined.set(part, length);
    length += part.length;
    at += RECORD_HEADER_BYTES + size;
    const end = messageEnd(joined.subarray(0, length));
    // What follows, early data for one, is between the client and its server.
    if (end !== undefined && length >= end) return joined.subarray(HANDSHAKE_HEADER_BYTES, end);
  }
  return undefined;
}

function readServerName(extension: Uint8Array): string {
  const cursor = new Cursor(extension);
  const list = new Cursor(cursor.vector(2));
  const type = list.uint(1);
  const name = list.vector(2);
  // RFC 6066 allows one name of a type, and knows one type.
  if (type !== NAME_TYPE_HOST || !list.isAtEnd || !cursor.isAtEnd) {
    throw new BadHello("its name list is malformed");
  }
  return String.fromCharCode(...name.subarray(0, 1024));
}

function readHello(body: Uint8Array): ClientHello {
  const cursor = new Cursor(body);
  cursor.take(2 + 32); // legacy_version, random
  cursor.vector(1); // legacy_session_id
  cursor.vector(2); // cipher_suites
  cursor.vector(1); // legacy_compression_methods
  const extensions = new Cursor(cursor.isAtEnd ? new Uint8Array() : cursor.vector(2));
  if (!cursor.isAtEnd) throw new BadHello("something follows its extensions");
  const seen = new Set<number>();
  let serverName: string | undefined;
  while (!extensions.isAtEnd) {
    const type = extensions.uint(2);
    const content = extensions.vector(2);
    // RFC 8446 §4.2; of two names the server might take the other one.
    if (seen.has(type)) throw new BadHello("an extension is there twice");
    seen.add(type);
    if (type === EXTENSION_SERVER_NAME) serverName = readServerName(content);
  }
  return { kind: "hello", serverName, isEncrypted: seen.has(EXTENSION_ECH) };
}

/** Reads the start of a connection. */
export function parseClientHello(bytes: Uint8Array): ClientHello {
  try {
    const body = joinRecords(bytes);
    if (body !== undefined) return readHello(body);
    return bytes.length <= MAX_HELLO_BYTES
      ? { kind: "incomplete" }
      : { kind: "bad", reason: "it is too long" };
  } catch (error) {
    if (error instanceof BadHello) return { kind: "bad", reason: error.message };
    throw error;
  }
}
