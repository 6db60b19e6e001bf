/**
 * Files that came inside a submission, as the archive that a workspace is made from.
 *
 * @module
 */

import { SessionError } from "../session/session_error.ts";
import { byteString, safePath } from "../session/tar_reader.ts";
import { tarEnd, tarHeader, tarPadding } from "../session/tar_writer.ts";
import { isGitInternal } from "../session/workspace_scan.ts";
import type { Submission } from "./schemas.ts";

type InlineFiles = NonNullable<Submission["files"]>;

/** The path as an archive has it. @throws {SessionError} when it leads out of the workspace */
function checkedPath(path: string): string {
  const name = byteString(new TextEncoder().encode(path));
  if (path.startsWith("/") || path.includes("\0") || safePath(name) !== name || isGitInternal(name)) {
    throw new SessionError("config", `files: "${path}" is not a path in the workspace: src/main.ts is one`);
  }
  return name;
}

/** The archive; paths are checked before its first byte. @throws {SessionError} */
export function packInlineFiles(files: InlineFiles): AsyncGenerator<Uint8Array> {
  const members = Object.entries(files).map(([path, content]) => ({ name: checkedPath(path), content }));
  return pack(members);
}

async function* pack(
  members: readonly { readonly name: string; readonly content: InlineFiles[string] }[],
): AsyncGenerator<Uint8Array> {
  for (const { name, content } of members) {
    const isText = typeof content === "string";
    const bytes = isText ? new TextEncoder().encode(content) : Uint8Array.fromBase64(content.base64);
    const mode = Number.parseInt(isText ? "644" : content.mode, 8);
    yield tarHeader({ kind: "file", name, mode, mtime: 0, sizeBytes: bytes.length });
    yield bytes;
    yield tarPadding(bytes.length);
  }
  yield tarEnd();
}
