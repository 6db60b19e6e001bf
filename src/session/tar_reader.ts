/**
 * Reads tar streams: ustar, pax and GNU long names. Archives come from guests and are not trusted; this file
 * proves sizes and checksums, {@linkcode safePath} proves names. Names are kept as byte strings (one
 * character per byte), because file names need not be UTF-8.
 *
 * @module
 */

const BLOCK_BYTES = 512;
/** A name or a pax header longer than this is an attack, not a file. */
const MAX_EXTENDED_HEADER_BYTES = 1024 * 1024;

/** The archive is malformed. */
export class TarError extends Error {
  override readonly name = "TarError";
}

/** What an archive member is; `other` covers devices, pipes and unknown types. */
export type TarEntryKind = "file" | "directory" | "symlink" | "hardlink" | "other";

/** One member of an archive. */
export interface TarEntry {
  readonly kind: TarEntryKind;
  /** name as stored, one character per byte */
  readonly name: string;
  /** target of a symlink or hard link, one character per byte */
  readonly linkName: string;
  /** permission bits */
  readonly mode: number;
  /** modification time in `s` since 1970 */
  readonly mtime: number;
  /** content in bytes (0 unless a file) */
  readonly sizeBytes: number;
  /** the content; what is not read is skipped */
  readonly content: AsyncIterable<Uint8Array>;
}

const KINDS: Readonly<Record<string, TarEntryKind>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "5": "directory",
};

/** One character per byte. */
export function byteString(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return text;
}

/** The bytes of a byte string. */
export function stringBytes(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** A byte string as text, or undefined where it is not UTF-8. */
export function byteStringToText(text: string): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(stringBytes(text));
  } catch {
    // Not UTF-8: the caller decides what that means.
    return undefined;
  }
}

/**
 * The name of a member as a clean relative path (`a/b`, or `` for the root), or undefined when it would
 * leave the folder it is unpacked in.
 */
export function safePath(name: string): string | undefined {
  if (name.startsWith("/") || name.includes("\0")) return undefined;
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  return parts.includes("..") ? undefined : parts.join("/");
}

class BlockSource {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array();

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  /** Up to `maxBytes` bytes; undefined at the end of the stream. */
  async some(maxBytes: number): Promise<Uint8Array | undefined> {
    while (this.#chunk.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) return undefined;
      this.#chunk = next.value;
    }
    const taken = this.#chunk.subarray(0, maxBytes);
    this.#chunk = this.#chunk.subarray(taken.length);
    return taken;
  }

  /** Exactly `byteCount` bytes; undefined when the stream ends before the first. */
  async exactly(byteCount: number): Promise<Uint8Array | undefined> {
    const bytes = new Uint8Array(byteCount);
    for (let at = 0; at < byteCount;) {
      const piece = await this.some(byteCount - at);
      if (piece === undefined) {
        if (at === 0) return undefined;
        throw new TarError("Cannot read archive: it is cut short");
      }
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  async close(): Promise<void> {
    await this.#iterator.return?.();
  }
}

function textField(header: Uint8Array, start: number, length: number): string {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return byteString(end === -1 ? field : field.subarray(0, end));
}

function numberField(header: Uint8Array, start: number, length: number): number {
  const first = header[start] ?? 0;
  if (first >= 0x80) {
    // GNU's base-256 form, for sizes that octal cannot hold.
    let value = first & 0x7f;
    for (const byte of header.subarray(start + 1, start + length)) value = value * 256 + byte;
    if (!Number.isSafeInteger(value)) throw new TarError("Cannot read archive: a number is out of range");
    return value;
  }
  const text = textField(header, start, length).trim();
  if (text === "") return 0;
  if (!/^[0-7]+$/.test(text)) throw new TarError("Cannot read archive: a number is malformed");
  return Number.parseInt(text, 8);
}

function checkSum(header: Uint8Array): void {
  let sum = 0;
  header.forEach((byte, at) => sum += at >= 148 && at < 156 ? 0x20 : byte);
  if (sum !== numberField(header, 148, 8)) throw new TarError("Cannot read archive: wrong checksum");
}

/** Parses pax records: `<length> <key>=<value>\n`. */
export function parsePax(bytes: Uint8Array): Map<string, string> {
  const records = new Map<string, string>();
  const text = byteString(bytes);
  for (let at = 0; at < text.length;) {
    const space = text.indexOf(" ", at);
    const length = Number(text.slice(at, space));
    if (space === -1 || !Number.isInteger(length) || length <= space - at || at + length > text.length) {
      throw new TarError("Cannot read archive: a pax record is malformed");
    }
    const record = text.slice(space + 1, at + length - 1);
    const equals = record.indexOf("=");
    if (equals < 1) throw new TarError("Cannot read archive: a pax record is malformed");
    records.set(record.slice(0, equals), record.slice(equals + 1));
    at += length;
  }
  return records;
}

function padded(byteCount: number): number {
  return Math.ceil(byteCount / BLOCK_BYTES) * BLOCK_BYTES;
}

async function extendedHeader(source: BlockSource, sizeBytes: number): Promise<Uint8Array> {
  if (sizeBytes > MAX_EXTENDED_HEADER_BYTES) throw new TarError("Cannot read archive: a header is too long");
  const bytes = await source.exactly(padded(sizeBytes));
  if (bytes === undefined) throw new TarError("Cannot read archive: it is cut short");
  return bytes.subarray(0, sizeBytes);
}

function makeEntry(header: Uint8Array, extended: ReadonlyMap<string, string>): Omit<TarEntry, "content"> {
  const isUstar = textField(header, 257, 5) === "ustar";
  const prefix = isUstar && header[263] === 0x30 ? textField(header, 345, 155) : "";
  const shortName = textField(header, 0, 100);
  const kind = KINDS[String.fromCharCode(header[156] ?? 0)] ?? "other";
  const sizeBytes = Number(extended.get("size") ?? numberField(header, 124, 12));
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) {
    throw new TarError("Cannot read archive: a size is malformed");
  }
  return {
    kind,
    name: extended.get("path") ?? (prefix === "" ? shortName : `${prefix}/${shortName}`),
    linkName: extended.get("linkpath") ?? textField(header, 157, 100),
    mode: numberField(header, 100, 8) & 0o7777,
    mtime: Math.floor(Number(extended.get("mtime") ?? numberField(header, 136, 12))) || 0,
    // Links and directories have no content, whatever their size field says; other types may.
    sizeBytes: kind === "file" || kind === "other" ? sizeBytes : 0,
  };
}

/** Reads the members of an archive in order. */
export async function* readTar(stream: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const source = new BlockSource(stream);
  try {
    let extended = new Map<string, string>();
    for (;;) {
      const header = await source.exactly(BLOCK_BYTES);
      if (header === undefined || header.every((byte) => byte === 0)) return;
      checkSum(header);
      const type = String.fromCharCode(header[156] ?? 0);
      if ("xgLK".includes(type)) {
        const bytes = await extendedHeader(source, numberField(header, 124, 12));
        const key = type === "L" ? "path" : "linkpath";
        if (type === "x") extended = new Map([...extended, ...parsePax(bytes)]);
        else if (type !== "g") extended.set(key, textField(bytes, 0, bytes.length));
        continue;
      }
      const entry = makeEntry(header, extended);
      extended = new Map();
      let remaining = entry.sizeBytes;
      const content = async function* (): AsyncGenerator<Uint8Array> {
        while (remaining > 0) {
          const piece = await source.some(remaining);
          if (piece === undefined) throw new TarError("Cannot read archive: it is cut short");
          remaining -= piece.length;
          yield piece;
        }
      };
      yield { ...entry, content: content() };
      for await (const _ of content()) { /* skip what was not read */ }
      const padding = padded(entry.sizeBytes) - entry.sizeBytes;
      if (padding > 0 && await source.exactly(padding) === undefined) {
        throw new TarError("Cannot read archive: it is cut short");
      }
    }
  } finally {
    await source.close();
  }
}
