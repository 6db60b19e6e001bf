/**
 * A plain client of the guest's control protocol over a Unix socket, for tests of the guest's side.
 *
 * @module
 */

/** A frame. */
export interface Frame {
  readonly type: string;
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** One connection. */
export class GuestConnection {
  readonly #conn: Deno.UnixConn;

  private constructor(conn: Deno.UnixConn) {
    this.#conn = conn;
  }

  /** Connects to `path`. */
  static async open(path: string): Promise<GuestConnection> {
    return new GuestConnection(await Deno.connect({ transport: "unix", path }));
  }

  /** Sends a frame. */
  async send(type: string, payload: Uint8Array | string = ""): Promise<void> {
    const bytes = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
    const frame = new Uint8Array(5 + bytes.length);
    frame[0] = type.charCodeAt(0);
    new DataView(frame.buffer).setUint32(1, bytes.length, true);
    frame.set(bytes, 5);
    await this.sendRaw(frame);
  }

  /** Sends bytes as they are. */
  async sendRaw(bytes: Uint8Array): Promise<void> {
    for (let sent = 0; sent < bytes.length;) sent += await this.#conn.write(bytes.subarray(sent));
  }

  /** Sends a request frame of `key=value` strings. */
  async request(type: string, ...fields: readonly string[]): Promise<void> {
    await this.send(type, fields.map((field) => field + "\0").join(""));
  }

  /** Reads the next frame; undefined at the end. */
  async receive(): Promise<Frame | undefined> {
    const header = await this.#read(5);
    if (header === undefined) return undefined;
    const payload = await this.#read(new DataView(header.buffer).getUint32(1, true));
    return { type: String.fromCharCode(header[0] ?? 0), payload: payload ?? new Uint8Array() };
  }

  /** Reads frames to the end. */
  async receiveAll(): Promise<Frame[]> {
    const frames: Frame[] = [];
    for (let frame = await this.receive(); frame !== undefined; frame = await this.receive()) {
      frames.push(frame);
    }
    return frames;
  }

  close(): void {
    this.#conn.close();
  }

  async #read(length: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const bytes = new Uint8Array(length);
    for (let got = 0; got < length;) {
      const n = await this.#conn.read(bytes.subarray(got)).catch(() => null);
      if (n === null) return undefined;
      got += n;
    }
    return bytes;
  }
}

/** Joins the payloads of all frames of one type. */
export function joined(frames: readonly Frame[], type: string): Uint8Array<ArrayBuffer> {
  const pieces = frames.filter((frame) => frame.type === type).map((frame) => frame.payload);
  const result = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    result.set(piece, offset);
    offset += piece.length;
  }
  return result;
}
