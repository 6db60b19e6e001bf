/**
 * Writes a task's results into one archive: always in the same order, without times and owners, so that equal results
 * make equal archives.
 *
 * @module
 */

import { join } from "node:path";
import { byteString } from "../session/tar_reader.ts";
import { TarFileWriter } from "../session/tar_writer.ts";
import { readFileChunks } from "../session/workspace_scan.ts";
import type { ArchivedLink } from "./unpack_files.ts";

/** What goes into an archive. */
export interface BundleContent {
  readonly folder: string;
  /** names in the folder, in the order of the archive; those that do not exist are left out */
  readonly order: readonly string[];
  /** symbolic links below some of them, which the folder does not have */
  readonly links: ReadonlyMap<string, readonly ArchivedLink[]>;
}

interface Member {
  /** one character per byte */
  readonly name: string;
  /** file on disk, or target of a link */
  readonly from: { readonly path: string } | { readonly linkName: string };
}

function bytes(text: string): string {
  return byteString(new TextEncoder().encode(text));
}

async function* filesBelow(path: string, name: string): AsyncGenerator<Member> {
  const info = await Deno.lstat(path).catch(() => undefined);
  if (info?.isFile === true) yield { name: bytes(name), from: { path } };
  if (info?.isDirectory !== true) return;
  for await (const entry of Deno.readDir(path)) {
    yield* filesBelow(join(path, entry.name), `${name}/${entry.name}`);
  }
}

async function add(writer: TarFileWriter, { name, from }: Member): Promise<void> {
  if ("linkName" in from) {
    return await writer.add({ kind: "symlink", name, ...from, mode: 0o777, mtime: 0, sizeBytes: 0 });
  }
  const { size, mode } = await Deno.stat(from.path);
  const facts = { mode: ((mode ?? 0) & 0o100) === 0 ? 0o644 : 0o755, mtime: 0, sizeBytes: size };
  await writer.add({ kind: "file", name, ...facts }, readFileChunks(from.path));
}

/** Writes the archive; under its name there is a whole one or none. */
export async function writeBundle(path: string, content: BundleContent): Promise<void> {
  const draft = `${path}.partial`;
  await Deno.remove(draft).catch(() => {/* there is none, as a rule */});
  {
    using writer = await TarFileWriter.create(draft);
    for (const top of content.order) {
      const members = await Array.fromAsync(filesBelow(join(content.folder, top), top));
      for (const { name, linkName } of content.links.get(top) ?? []) {
        members.push({ name: `${bytes(top)}/${name}`, from: { linkName } });
      }
      members.sort((a, b) => a.name < b.name ? -1 : 1);
      for (const member of members) await add(writer, member);
    }
    await writer.finish();
  }
  await Deno.rename(draft, path);
}
