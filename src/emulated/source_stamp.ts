/**
 * Tells whether the source tree changed: names, sizes and times of the files that a server has loaded.
 *
 * @module
 */
import { join } from "node:path";
import { contentKey } from "../images/digest.ts";

const FOLDERS = ["src", "devices", "agent-images"];

/** Stamp of the tree at `root`; it changes whenever a source file does. */
export async function sourceStamp(root: string): Promise<string> {
  const lines: string[] = [];
  const visit = async (folder: string): Promise<void> => {
    for await (const entry of Deno.readDir(join(root, folder))) {
      const path = join(folder, entry.name);
      if (entry.isDirectory) await visit(path);
      else if (entry.isFile && /\.(ts|json)$/.test(entry.name)) lines.push(await describe(root, path));
    }
  };
  for (const folder of FOLDERS) await visit(folder);
  lines.push(await describe(root, "deno.json"));
  return contentKey(lines.sort().join("\n"));
}

async function describe(root: string, path: string): Promise<string> {
  const stat = await Deno.stat(join(root, path));
  return `${path} ${stat.size} ${stat.mtime?.getTime() ?? 0}`;
}
