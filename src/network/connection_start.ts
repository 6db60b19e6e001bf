/**
 * The first bytes of a guest's connection: collected until a parser has made something of them, in bounded time
 * and room.
 *
 * @module
 */

import { closeQuietly } from "./splice.ts";

/** How long a guest may take to say what it wants, in `ms`. */
const START_LIMIT_MS = 10_000;
const CHUNK_BYTES = 16 * 1024;

/** A connection with what has been read from it. */
export class ConnectionStart {
  readonly connection: Deno.Conn;
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array();
  #isOver = false;

  constructor(connection: Deno.Conn) {
    this.connection = connection;
  }

  /** what has been read and not been dropped */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }

  /** Forgets the first bytes: they have been dealt with. */
  drop(byteCount: number): void {
    this.#bytes = this.#bytes.slice(byteCount);
  }

  /**
   * Reads until `parse` gives something else than `incomplete`; undefined: the guest ended or took too long before.
   * `parse` has to put a limit on how many bytes it wants.
   */
  async read<T extends { readonly kind: string }>(
    parse: (bytes: Uint8Array) => T | { readonly kind: "incomplete" },
  ): Promise<Exclude<T, { readonly kind: "incomplete" }> | undefined> {
    const timer = setTimeout(() => this.#giveUp(), START_LIMIT_MS);
    try {
      for (;;) {
        const parsed = parse(this.#bytes);
        if (parsed.kind !== "incomplete") return parsed as Exclude<T, { readonly kind: "incomplete" }>;
        if (!await this.#readMore()) return undefined;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async #readMore(): Promise<boolean> {
    if (this.#isOver) return false;
    const chunk = new Uint8Array(CHUNK_BYTES);
    const count = await this.connection.read(chunk).catch(() => null);
    if (count === null) return false;
    const joined = new Uint8Array(this.#bytes.length + count);
    joined.set(this.#bytes);
    joined.set(chunk.subarray(0, count), this.#bytes.length);
    this.#bytes = joined;
    return true;
  }

  #giveUp(): void {
    this.#isOver = true;
    closeQuietly(this.connection);
  }
}
