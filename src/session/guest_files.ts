/**
 * Single files of a guest, and what is in one of its folders. What it says of them is its own word.
 *
 * @module
 */

import { posix } from "node:path";
import type { GuestClient } from "./guest_client.ts";
import { SessionError } from "./session_error.ts";
import { byteStringToText, readTar, stringBytes } from "./tar_reader.ts";
import { byteString } from "./tar_reader.ts";
import { tarEnd, tarHeader, tarPadding } from "./tar_writer.ts";

/** Most entries of a folder that are listed, and most bytes that are read for them. */
export const MAX_LISTED_ENTRIES = 10_000;
const MAX_LISTING_BYTES = 4 * 1024 * 1024;
const LIST_LIMIT_MS = 30_000;
/** Room for headers around a single file in an archive, in bytes. */
const ARCHIVE_ROOM_BYTES = 64 * 1024;
const AGENT_UID = 1000;

/** What a folder holds under one name. */
export interface FolderEntry {
  readonly name: string;
  readonly type: "file" | "folder" | "symlink" | "other";
  readonly sizeBytes: number;
  /** permission bits */
  readonly mode: number;
  /** when its content changed last, ISO 8601 */
  readonly modifiedAt: string;
}

/** What is in a folder. */
export interface FolderListing {
  readonly entries: readonly FolderEntry[];
  /** there is more than is listed */
  readonly truncated: boolean;
}

/** No name holds a slash: each record ends at the first one that a line's end follows. */
const LIST_SCRIPT = `cd "$1" && exec find . -mindepth 1 -maxdepth 1 -exec stat -c '%f %s %Y %n/' {} +`;
const LIST_RECORD = /([0-9a-f]{1,8}) ([0-9]{1,15}) (-?[0-9]{1,12}) \.\/([^/]*)\/\n/y;
const TYPES: ReadonlyMap<number, FolderEntry["type"]> = new Map([
  [0o100000, "file"],
  [0o040000, "folder"],
  [0o120000, "symlink"],
]);

/** Reads what {@link LIST_SCRIPT} prints. */
export function parseListing(bytes: Uint8Array): FolderListing {
  const text = byteString(bytes);
  const entries: FolderEntry[] = [];
  const record = new RegExp(LIST_RECORD);
  for (let match = record.exec(text); match !== null; match = record.exec(text)) {
    if (entries.length === MAX_LISTED_ENTRIES) return { entries, truncated: true };
    const [, modeText = "", sizeText = "", timeText = "", name = ""] = match;
    const mode = Number.parseInt(modeText, 16);
    entries.push({
      // What is no UTF-8 is shown as far as it can be
      name: byteStringToText(name) ?? new TextDecoder().decode(stringBytes(name)),
      type: TYPES.get(Math.floor(mode / 0o10000) * 0o10000) ?? "other",
      sizeBytes: Number(sizeText),
      mode: mode % 0o10000,
      modifiedAt: new Date(Number(timeText) * 1000).toISOString(),
    });
  }
  return { entries, truncated: false };
}

/** What is in a folder, by name. @throws {SessionError} when there is no such folder */
export async function listFolder(guest: GuestClient, path: string): Promise<FolderListing> {
  const chunks: Uint8Array[] = [];
  let byteCount = 0;
  const process = await guest.exec({
    argv: ["/bin/sh", "-c", LIST_SCRIPT, "sh", path],
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC0" },
    cwd: "/",
    user: "root",
    onStdout: (chunk) => {
      byteCount += chunk.length;
      if (byteCount <= MAX_LISTING_BYTES) chunks.push(chunk);
    },
    onStderr: () => {},
  });
  const timer = setTimeout(() => process.close(), LIST_LIMIT_MS);
  const { exitCode } = await process.exit.finally(() => clearTimeout(timer));
  const listing = parseListing(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).bytes());
  if (exitCode !== 0 && byteCount === 0) {
    throw new SessionError("not_found", `There is no folder "${path.slice(0, 200)}" that can be listed`);
  }
  const entries = listing.entries.toSorted((a, b) => a.name < b.name ? -1 : 1);
  return { entries, truncated: listing.truncated || byteCount > MAX_LISTING_BYTES };
}

/** A file that is being read. */
export interface GuestFile {
  readonly sizeBytes: number;
  readonly content: AsyncGenerator<Uint8Array>;
}

/** Opens a file. @throws {SessionError} when it is none, or too large */
export async function openFile(guest: GuestClient, path: string, maxBytes: number): Promise<GuestFile> {
  const members = readTar(guest.get(path, maxBytes + ARCHIVE_ROOM_BYTES));
  const { value: first, done } = await members.next();
  if (done === true || first.kind !== "file" || first.name !== byteString(encode(posix.basename(path)))) {
    await members.return(undefined);
    throw new SessionError("conflict", `"${path.slice(0, 200)}" is not a file`);
  }
  const { sizeBytes, content } = first;
  if (sizeBytes > maxBytes) {
    await members.return(undefined);
    throw new SessionError(
      "too_large",
      `"${path.slice(0, 200)}" is over ${maxBytes} bytes: copy it as an archive`,
    );
  }
  return {
    sizeBytes,
    content: (async function* (): AsyncGenerator<Uint8Array> {
      try {
        for await (const chunk of content) yield chunk;
      } finally {
        await members.return(undefined);
      }
    })(),
  };
}

/** Writes a file, which belongs to the agent then; folders above it are made. */
export async function writeFile(
  guest: GuestClient,
  path: string,
  file: { readonly sizeBytes: number; readonly mode: number; readonly content: AsyncIterable<Uint8Array> },
): Promise<void> {
  const name = byteString(encode(posix.basename(path)));
  const { sizeBytes, mode } = file;
  const archive = async function* (): AsyncGenerator<Uint8Array> {
    yield tarHeader({ kind: "file", name, mode, mtime: Math.floor(Date.now() / 1000), sizeBytes });
    let byteCount = 0;
    for await (const chunk of file.content) {
      byteCount += chunk.length;
      if (byteCount > sizeBytes) break;
      yield chunk;
    }
    if (byteCount !== sizeBytes) {
      throw new SessionError("config", `The body is not the ${sizeBytes} bytes that its Content-Length says`);
    }
    yield tarPadding(sizeBytes);
    yield tarEnd();
  };
  await guest.put(archive(), { path: posix.dirname(path), uid: AGENT_UID, gid: AGENT_UID });
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
