/**
 * Writes an initramfs archive: the "newc" cpio format, uncompressed.
 *
 * @module
 */

/** One entry of the archive. */
export type CpioEntry =
  | { readonly kind: "folder"; readonly path: string }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const TRAILER = "TRAILER!!!";

/** Builds the archive. Paths are relative; a folder stands before what lies in it. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const pieces: Uint8Array[] = [];
  let inode = 1;
  for (const entry of entries) {
    if (entry.kind === "folder") pieces.push(record(inode++, entry.path, S_IFDIR | 0o755, new Uint8Array()));
    else if (entry.kind === "file") {
      pieces.push(record(inode++, entry.path, S_IFREG | entry.mode, entry.content));
    } else pieces.push(record(inode++, entry.path, S_IFLNK | 0o777, new TextEncoder().encode(entry.target)));
  }
  pieces.push(record(0, TRAILER, 0, new Uint8Array()));
  return concat(pieces);
}

function record(inode: number, path: string, mode: number, content: Uint8Array): Uint8Array {
  const name = new TextEncoder().encode(path + "\0");
  const links = (mode & S_IFDIR) !== 0 ? 2 : 1;
  // magic, then: inode mode uid gid links mtime size devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const head = new TextEncoder().encode(
    "070701" + fields.map((value) => value.toString(16).padStart(8, "0")).join(""),
  );
  return concat([padded(concat([head, name])), padded(content)]);
}

function padded(bytes: Uint8Array): Uint8Array {
  const result = new Uint8Array(Math.ceil(bytes.length / 4) * 4);
  result.set(bytes);
  return result;
}

function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const result = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let offset = 0;
  for (const piece of pieces) {
    result.set(piece, offset);
    offset += piece.length;
  }
  return result;
}
