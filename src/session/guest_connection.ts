/**
 * One connection to the guest's control port through the VMM's vsock socket (Firecracker's convention:
 * `CONNECT <port>\n`, answered by `OK <n>\n`), carrying frames.
 *
 * @module
 */

import {
  encodeFrame,
  encodeWords,
  FrameReader,
  type GuestFrame,
  GuestProtocolError,
} from "./guest_frames.ts";
import { decodeI32 } from "./guest_frames.ts";

/** Port that the guest's init listens on. */
export const CONTROL_PORT = 1024;
const MAX_GREETING_BYTES = 64;

/** The guest refused or failed an operation. */
export class GuestOperationError extends Error {
  override readonly name = "GuestOperationError";
  /** errno of the guest (0: none) */
  readonly errno: number;

  constructor(message: string, errno: number) {
    super(message);
    this.errno = errno;
  }
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

async function readLine(conn: Deno.Conn): Promise<string> {
  let line = "";
  const byte = new Uint8Array(1);
  // Byte by byte: what follows the line belongs to the frames.
  while (line.length < MAX_GREETING_BYTES) {
    if (await conn.read(byte) === null) throw new GuestProtocolError("Cannot reach the guest's control port");
    if (byte[0] === 0x0a) return line;
    line += String.fromCharCode(byte[0] ?? 0);
  }
  throw new GuestProtocolError("Cannot reach the guest's control port: greeting is too long");
}

/** A connection that carries one operation. */
export class GuestConnection implements Disposable {
  readonly #conn: Deno.UnixConn;
  readonly #reader: FrameReader;
  #isClosed = false;

  private constructor(conn: Deno.UnixConn) {
    this.#conn = conn;
    this.#reader = new FrameReader(conn);
  }

  /** Connects to the guest behind the vsock socket at `socketPath`. */
  static async open(socketPath: string): Promise<GuestConnection> {
    const conn = await Deno.connect({ transport: "unix", path: socketPath });
    try {
      await writeAll(conn, new TextEncoder().encode(`CONNECT ${CONTROL_PORT}\n`));
      const greeting = await readLine(conn);
      if (!/^OK [0-9]+$/.test(greeting)) {
        throw new GuestProtocolError("Cannot reach the guest's control port");
      }
    } catch (error) {
      conn.close();
      throw error;
    }
    return new GuestConnection(conn);
  }

  /** Takes over an accepted connection, on which the guest speaks first. */
  static accepted(conn: Deno.UnixConn): GuestConnection {
    return new GuestConnection(conn);
  }

  /** Sends one frame; waits while the guest is not reading. */
  async send(type: string, payload?: Uint8Array): Promise<void> {
    await writeAll(this.#conn, encodeFrame(type, payload));
  }

  /** Sends a request of `key=value` words. */
  async request(type: string, words: readonly (readonly [string, string])[] = []): Promise<void> {
    await this.send(type, encodeWords(words));
  }

  /** The next frame, or undefined at the end; an error frame is thrown. */
  async receive(): Promise<GuestFrame | undefined> {
    const frame = await this.#reader.next();
    if (frame?.type === "X") {
      const message = new TextDecoder().decode(frame.payload.subarray(4)).slice(0, 500);
      throw new GuestOperationError(`Guest reports: ${message}`, decodeI32(frame.payload, 0));
    }
    return frame;
  }

  /** The next frame, which must be there and of this type. */
  async expect(type: string): Promise<GuestFrame> {
    const frame = await this.receive();
    if (frame === undefined) throw new GuestProtocolError("Guest closed the connection before it answered");
    if (frame.type !== type) {
      throw new GuestProtocolError(`Guest answered "${frame.type}" where "${type}" was due`);
    }
    return frame;
  }

  /** Gives the connection away where frames end and bytes begin, with the bytes that have come already. */
  release(): { readonly conn: Deno.Conn; readonly first: Uint8Array } {
    this.#isClosed = true;
    return { conn: this.#conn, first: this.#reader.rest() };
  }

  /** Closes the connection; the guest ends what it was doing for it. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#conn.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
