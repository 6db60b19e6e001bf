/**
 * One file out of a task's archive of changed files. Nothing is unpacked: a path only ever names a member.
 *
 * @module
 */

import { SessionError } from "../session/session_error.ts";
import { byteString, readTar } from "../session/tar_reader.ts";
import { readFileChunks } from "../session/workspace_scan.ts";

/** The content of a member of an archive; links are followed to what they name in it, once. @throws {SessionError} */
export async function openArchivedFile(
  archivePath: string,
  path: string,
): Promise<{ sizeBytes: number; content: ReadableStream<Uint8Array> }> {
  const found = await find(archivePath, byteString(new TextEncoder().encode(path)));
  if (found === undefined) {
    throw new SessionError("not_found", `Task changed no file "${path.slice(0, 200)}"`);
  }
  return found;
}

async function find(
  archivePath: string,
  name: string,
  isLinkTarget = false,
): Promise<{ sizeBytes: number; content: ReadableStream<Uint8Array> } | undefined> {
  const entries = readTar(readFileChunks(archivePath));
  for (;;) {
    const next = await entries.next();
    if (next.done === true) return undefined;
    const entry = next.value;
    if (entry.name !== name) continue;
    if (entry.kind === "hardlink" && !isLinkTarget) {
      await entries.return(undefined);
      return await find(archivePath, entry.linkName, true);
    }
    if (entry.kind !== "file") {
      await entries.return(undefined);
      return undefined;
    }
    const chunks = entry.content[Symbol.asyncIterator]();
    const content = new ReadableStream<Uint8Array>({
      async pull(controller): Promise<void> {
        const chunk = await chunks.next();
        if (chunk.done !== true) return controller.enqueue(chunk.value);
        await entries.return(undefined);
        controller.close();
      },
      cancel: async () => void await entries.return(undefined),
    }, { highWaterMark: 0 });
    return { sizeBytes: entry.sizeBytes, content };
  }
}
