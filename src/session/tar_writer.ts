/**
 * Writes tar archives: ustar, with pax headers where a name or a size does not fit.
 *
 * @module
 */

import { stringBytes, type TarEntryKind } from "./tar_reader.ts";

const BLOCK_BYTES = 512;
const MAX_OCTAL_SIZE = 8 ** 11 - 1;
const TYPE_FLAGS: Readonly<Record<TarEntryKind, string>> = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  directory: "5",
  other: "0",
};

/** What goes into a member's header. */
export interface TarMember {
  readonly kind: Exclude<TarEntryKind, "other">;
  /** name, one character per byte */
  readonly name: string;
  /** target of a link, one character per byte (default none) */
  readonly linkName?: string;
  /** permission bits */
  readonly mode: number;
  /** modification time in `s` since 1970 */
  readonly mtime: number;
  /** content in bytes (0 unless a file) */
  readonly sizeBytes: number;
}

function octal(value: number, width: number): string {
  return Math.max(0, Math.floor(value)).toString(8).padStart(width - 1, "0") + "\0";
}

function headerBlock(member: TarMember, typeFlag: string): Uint8Array {
  const header = new Uint8Array(BLOCK_BYTES);
  const put = (at: number, text: string): void => header.set(stringBytes(text), at);
  put(0, member.name.slice(0, 100));
  put(100, octal(member.mode, 8));
  put(108, octal(0, 8));
  put(116, octal(0, 8));
  put(124, octal(Math.min(member.sizeBytes, MAX_OCTAL_SIZE), 12));
  put(136, octal(Math.min(member.mtime, MAX_OCTAL_SIZE), 12));
  put(148, " ".repeat(8));
  put(156, typeFlag);
  put(157, (member.linkName ?? "").slice(0, 100));
  put(257, "ustar\x0000");
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(148, sum.toString(8).padStart(6, "0") + "\0 ");
  return header;
}

/** One pax record; its length counts its own digits. */
function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

/** Bytes that fill up the last block of a content. */
export function tarPadding(sizeBytes: number): Uint8Array {
  return new Uint8Array((BLOCK_BYTES - sizeBytes % BLOCK_BYTES) % BLOCK_BYTES);
}

/** The end of an archive. */
export function tarEnd(): Uint8Array {
  return new Uint8Array(2 * BLOCK_BYTES);
}

/** A member's header, with a pax header before it where needed. */
export function tarHeader(member: TarMember): Uint8Array {
  let records = "";
  if (member.name.length > 100) records += paxRecord("path", member.name);
  if ((member.linkName ?? "").length > 100) records += paxRecord("linkpath", member.linkName ?? "");
  if (member.sizeBytes > MAX_OCTAL_SIZE) records += paxRecord("size", String(member.sizeBytes));
  const main = headerBlock(member, TYPE_FLAGS[member.kind]);
  if (records === "") return main;
  const body = stringBytes(records);
  const pax: TarMember = { kind: "file", name: "pax_header", mode: 0o644, mtime: 0, sizeBytes: body.length };
  const parts = [headerBlock(pax, "x"), body, tarPadding(body.length), main];
  const bytes = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** Writes an archive into a file, member by member. */
export class TarFileWriter implements Disposable {
  readonly #file: Deno.FsFile;

  private constructor(file: Deno.FsFile) {
    this.#file = file;
  }

  /** Makes the file at `path`, readable by its owner only. */
  static async create(path: string): Promise<TarFileWriter> {
    return new TarFileWriter(await Deno.open(path, { write: true, createNew: true, mode: 0o600 }));
  }

  /** Adds a member; `content` must be exactly as long as it says. */
  async add(member: TarMember, content?: AsyncIterable<Uint8Array>): Promise<void> {
    await this.#write(tarHeader(member));
    if (member.kind !== "file") return;
    let byteCount = 0;
    for await (const chunk of content ?? []) {
      byteCount += chunk.length;
      await this.#write(chunk);
    }
    if (byteCount !== member.sizeBytes) {
      throw new RangeError(
        `Cannot archive a file: ${byteCount} bytes came where ${member.sizeBytes} were due`,
      );
    }
    await this.#write(tarPadding(byteCount));
  }

  /** Writes the end of the archive. */
  async finish(): Promise<void> {
    await this.#write(tarEnd());
  }

  async #write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) at += await this.#file.write(bytes.subarray(at));
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
