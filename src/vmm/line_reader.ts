/**
 * Lines of a byte stream, none longer than a limit.
 *
 * @module
 */

/** A line that is longer than allowed: its sender is broken or hostile. */
export class LineTooLongError extends Error {
  override readonly name = "LineTooLongError";
}

const NEWLINE = 0x0a;

/** Iterates over the lines of `stream`, without their ends. A last line without an end counts. */
export class LineReader {
  readonly #stream: ReadableStream<Uint8Array>;
  readonly #maxBytes: number;

  constructor(stream: ReadableStream<Uint8Array>, maxBytes: number) {
    this.#stream = stream;
    this.#maxBytes = maxBytes;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void> {
    const decoder = new TextDecoder();
    let parts: Uint8Array[] = [];
    let length = 0;
    const take = (last: Uint8Array): string => {
      const line = new Uint8Array(length + last.byteLength);
      let at = 0;
      for (const part of [...parts, last]) {
        line.set(part, at);
        at += part.byteLength;
      }
      parts = [];
      length = 0;
      return decoder.decode(line);
    };
    for await (let chunk of this.#stream) {
      for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE)) {
        if (length + end > this.#maxBytes) {
          throw new LineTooLongError(`A line is longer than ${this.#maxBytes} bytes`);
        }
        yield take(chunk.subarray(0, end));
        chunk = chunk.subarray(end + 1);
      }
      length += chunk.byteLength;
      if (length > this.#maxBytes) {
        throw new LineTooLongError(`A line is longer than ${this.#maxBytes} bytes`);
      }
      parts.push(chunk);
    }
    if (length > 0) yield take(new Uint8Array(0));
  }
}
