/**
 * Splits a byte stream into lines with a limit on their length.
 *
 * @module
 */

/** A line is longer than allowed. */
export class LineTooLongError extends Error {
  override readonly name = "LineTooLongError";
}

/** Collects chunks and gives the complete lines in them. */
export class LineSplitter {
  readonly #maxBytes: number;
  readonly #onTooLong: "throw" | "drop";
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #isDropping = false;
  #droppedCount = 0;

  /** Lines over `maxBytes` are an error, or are left out and counted. */
  constructor(maxBytes: number, onTooLong: "throw" | "drop") {
    this.#maxBytes = maxBytes;
    this.#onTooLong = onTooLong;
  }

  /** number of lines that were left out */
  get droppedCount(): number {
    return this.#droppedCount;
  }

  /** Takes a chunk and gives the lines that it completes, without their line feeds. */
  push(chunk: Uint8Array): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      this.#add(chunk.subarray(start, end));
      const line = this.#take();
      if (line !== undefined) lines.push(line);
      start = end + 1;
    }
    this.#add(chunk.slice(start));
    return lines;
  }

  /** The last line, if the stream did not end in a line feed. */
  flush(): string[] {
    if (this.#pendingBytes === 0) return [];
    const line = this.#take();
    return line === undefined ? [] : [line];
  }

  #add(piece: Uint8Array): void {
    if (this.#isDropping || piece.length === 0) return;
    this.#pendingBytes += piece.length;
    if (this.#pendingBytes <= this.#maxBytes) {
      this.#pending.push(piece);
      return;
    }
    if (this.#onTooLong === "throw") throw new LineTooLongError(`Line is over ${this.#maxBytes} bytes`);
    this.#isDropping = true;
    this.#droppedCount += 1;
    this.#pending = [];
  }

  #take(): string | undefined {
    const isDropped = this.#isDropping;
    const bytes = new Uint8Array(isDropped ? 0 : this.#pendingBytes);
    let at = 0;
    for (const piece of this.#pending) {
      bytes.set(piece, at);
      at += piece.length;
    }
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#isDropping = false;
    return isDropped ? undefined : new TextDecoder().decode(bytes);
  }
}
