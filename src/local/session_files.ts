/**
 * Copies files between this machine and a session.
 *
 * @module
 */

import { basename, dirname, join, resolve } from "node:path";
import type { ApiClient } from "../api/client.ts";
import { LocalError } from "./local_error.ts";
import { packFile, packTree } from "./pack_workspace.ts";
import { unpackArchive } from "./unpack_archive.ts";

/** A place in a session: `ID:/path`. */
export interface SessionPath {
  readonly id: string;
  readonly path: string;
}

/** Reads `ID:/path`; undefined when it is a path of this machine. */
export function parseSessionPath(text: string): SessionPath | undefined {
  const match = /^([a-z0-9]{4,24}):(.*)$/s.exec(text);
  if (match === null) return undefined;
  const [, id = "", path = ""] = match;
  if (path.startsWith("/")) return { id, path: path.length > 1 ? path.replace(/\/+$/, "") || "/" : path };
  return { id, path: join("/workspace", path).replace(/\/+$/, "") };
}

/** What kind of thing is at a path of a session. */
async function kindOf(client: ApiClient, { id, path }: SessionPath): Promise<"folder" | "file" | "nothing"> {
  const script =
    'if [ -d "$1" ]; then exit 10; elif [ -e "$1" ] || [ -L "$1" ]; then exit 11; else exit 12; fi';
  const child = client.exec(id, { argv: ["/bin/sh", "-c", script, "sh", path], user: "root", cwd: "/" });
  await Promise.all([child.stdout.cancel(), child.stderr.cancel()]);
  const { code } = await child.status;
  if (code === 10) return "folder";
  return code === 11 ? "file" : "nothing";
}

async function isFolder(path: string): Promise<boolean> {
  return (await Deno.stat(path).catch(() => undefined))?.isDirectory === true;
}

/** Copies a file or folder out of a session; into `to` if that is a folder, else under that name. */
export async function copyFromSession(
  client: ApiClient,
  from: SessionPath,
  to: string,
): Promise<{ readonly count: number; readonly refusedCount: number; readonly target: string }> {
  const kind = await kindOf(client, from);
  if (kind === "nothing") throw new LocalError("usage", `There is no "${from.path}" in session ${from.id}`);
  const target = await isFolder(to) ? join(to, basename(from.path)) : resolve(to);
  if (kind === "file" && await isFolder(target)) {
    throw new LocalError("usage", `"${target}" is a folder, and what would be written there is a file`);
  }
  const tar = await client.readFiles(from.id, from.path);
  const place = kind === "folder"
    ? { folder: target }
    : { folder: dirname(target), fileName: basename(target) };
  return { ...await unpackArchive({ tar, ...place }), target };
}

/** Copies a file or folder into a session; into `to` if that is a folder there, else under that name. */
export async function copyToSession(client: ApiClient, from: string, to: SessionPath): Promise<void> {
  const info = await Deno.stat(from).catch(() => undefined);
  if (info === undefined) throw new LocalError("usage", `There is no "${from}"`);
  const isInto = await kindOf(client, to) === "folder";
  const target = isInto ? join(to.path, basename(resolve(from))) : to.path;
  const chunks = info.isDirectory ? packTree(from) : packFile(from, basename(target));
  const body = ReadableStream.from(chunks) as ReadableStream<Uint8Array>;
  await client.writeFiles(to.id, info.isDirectory ? target : dirname(target), body);
}
