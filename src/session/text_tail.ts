/**
 * Keeps the end of a text that may be endless.
 *
 * @module
 */

/** A text without control characters other than tabs and line feeds. */
export function withoutControls(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
}

/** The last part of a stream of bytes, as text. */
export class TextTail {
  readonly #maxLength: number;
  readonly #decoder = new TextDecoder();
  #text = "";

  /** `maxLength`: characters kept */
  constructor(maxLength: number) {
    this.#maxLength = maxLength;
  }

  /** Adds bytes at the end. */
  push(chunk: Uint8Array): void {
    this.#text = (this.#text + this.#decoder.decode(chunk, { stream: true })).slice(-this.#maxLength);
  }

  /** what is kept */
  get text(): string {
    return this.#text;
  }

  /** The last lines, without control characters other than tabs. */
  lastLines(count: number): string {
    const lines = this.#text.split(/\r?\n/).filter((line) => line.trim() !== "");
    return withoutControls(lines.slice(-count).join("\n"));
  }
}
