/**
 * The files that an agent added or changed, as an archive of their own.
 *
 * @module
 */

import { TarFileWriter } from "./tar_writer.ts";
import { checkedEntries, type WorkspacePath } from "./workspace_scan.ts";

/**
 * Copies the wanted paths out of the guest's archive. A path that is a hard link in the guest comes as a file, or as a
 * link to another of the wanted ones.
 */
export async function writeChangedFiles(
  tar: AsyncIterable<Uint8Array>,
  wanted: ReadonlyMap<string, WorkspacePath>,
  targetPath: string,
): Promise<void> {
  const byContent = Map.groupBy(wanted, ([, entry]) => entry.contentPath);
  using writer = await TarFileWriter.create(targetPath);
  for await (const { path, entry } of checkedEntries(tar, () => {})) {
    const [first, ...others] = (byContent.get(path) ?? []).map(([name]) => name);
    if (first === undefined || (entry.kind !== "file" && entry.kind !== "symlink")) continue;
    // What comes twice in the guest's archive comes once in ours
    byContent.delete(path);
    const { kind, linkName, mtime, sizeBytes } = entry;
    const facts = { linkName, mode: entry.mode & 0o777, mtime };
    await writer.add({ ...facts, kind, name: first, sizeBytes }, entry.content);
    for (const name of others) {
      const link = kind === "symlink" ? { kind } as const : { kind: "hardlink", linkName: first } as const;
      await writer.add({ ...facts, ...link, name, sizeBytes: 0 });
    }
  }
  await writer.finish();
}
