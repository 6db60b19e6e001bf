/**
 * A task's results as one archive, made from the files in its folder: always in the same order, without times, so that
 * equal results make equal archives.
 *
 * @module
 */

import { join } from "node:path";
import { readTar } from "./tar_reader.ts";
import { TarFileWriter } from "./tar_writer.ts";
import { TASK_FILES } from "./task_files.ts";
import { readFileChunks } from "./workspace_scan.ts";

const BUNDLE_NAME = "bundle.tar";
/** Folders of the archive, each with the archive that its content comes from. */
const FOLDERS = [["patches", TASK_FILES.patches], ["files", TASK_FILES.files]] as const;
const FILES = ["transcript", "raw", "network", "console"] as const;

async function addFile(writer: TarFileWriter, name: string, path: string): Promise<void> {
  const info = await Deno.stat(path).catch(() => undefined);
  if (info === undefined) return;
  await writer.add({ kind: "file", name, mode: 0o644, mtime: 0, sizeBytes: info.size }, readFileChunks(path));
}

/** The members of an archive, below a folder of that name. */
async function addFolder(writer: TarFileWriter, folder: string, path: string): Promise<void> {
  if (await Deno.stat(path).catch(() => undefined) === undefined) return;
  for await (const { kind, name, linkName, mode, sizeBytes, content } of readTar(readFileChunks(path))) {
    if (kind !== "file" && kind !== "symlink" && kind !== "hardlink") continue;
    // A hard link names a member of the archive; a symbolic one whatever it wants
    const target = kind === "hardlink" ? { linkName: `${folder}/${linkName}` } : { linkName };
    const facts = { kind, name: `${folder}/${name}`, ...target, mode: (mode & 0o100) === 0 ? 0o644 : 0o755 };
    await writer.add({ ...facts, mtime: 0, sizeBytes }, content);
  }
}

/** Makes the archive in a task's folder if it is not there, and gives its path; `document` becomes `result.json`. */
export async function makeTaskBundle(folder: string, document: unknown): Promise<string> {
  const path = join(folder, BUNDLE_NAME);
  if (await Deno.stat(path).catch(() => undefined) !== undefined) return path;
  // A task that never ran has none
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
  const draft = join(folder, `${BUNDLE_NAME}.${crypto.randomUUID()}`);
  {
    using writer = await TarFileWriter.create(draft);
    const bytes = new TextEncoder().encode(`${JSON.stringify(document, null, 2)}\n`);
    const facts = { kind: "file", name: "result.json", mode: 0o644, mtime: 0 } as const;
    await writer.add({ ...facts, sizeBytes: bytes.length }, ReadableStream.from([bytes]));
    await addFile(writer, TASK_FILES.patch, join(folder, TASK_FILES.patch));
    for (const [name, archive] of FOLDERS) await addFolder(writer, name, join(folder, archive));
    for (const kind of FILES) await addFile(writer, TASK_FILES[kind], join(folder, TASK_FILES[kind]));
    await writer.finish();
  }
  // Whoever asked at the same time made the same
  await Deno.rename(draft, path);
  return path;
}
