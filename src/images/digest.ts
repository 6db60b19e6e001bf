/**
 * Hashes that name cached things and check downloads.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** Hex SHA-256 of strings and bytes, each closed by its length so that pieces cannot run into each other. */
export function contentKey(...pieces: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  for (const piece of pieces) {
    hash.update(piece);
    hash.update(`|${piece.length}|`);
  }
  return hash.digest("hex").slice(0, 24);
}

/** Hash of a file's content, read in pieces. */
export async function fileDigest(
  path: string,
  algorithm: "sha256" | "sha512",
  encoding: "hex" | "base64" = "hex",
): Promise<string> {
  const hash = createHash(algorithm);
  using file = await Deno.open(path);
  const buffer = new Uint8Array(1024 * 1024);
  for (let n = await file.read(buffer); n !== null; n = await file.read(buffer)) {
    hash.update(buffer.subarray(0, n));
  }
  return hash.digest(encoding);
}

/** Hash over the names and contents of all files in a folder, in name order. */
export async function folderKey(path: string): Promise<string> {
  const pieces: (string | Uint8Array)[] = [];
  const names: string[] = [];
  for await (const entry of Deno.readDir(path)) if (entry.isFile) names.push(entry.name);
  for (const name of names.sort()) pieces.push(name, await Deno.readFile(`${path}/${name}`));
  return contentKey(...pieces);
}
