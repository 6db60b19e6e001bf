/**
 * npm packages with all they depend on, as a lock file says: npm checks each against the hash in the lock, and no install
 * script runs.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { removeAll, withLock } from "./build_once.ts";
import { runCommand } from "./command.ts";
import { contentKey } from "./digest.ts";
import { explainNpm } from "./npm_package.ts";

/** A tree of packages; the shape of `AgentPackageTree`. */
export interface NpmTree {
  /** folder with `package.json` and `package-lock.json` */
  readonly folder: string;
  /** absolute path in the image that gets the `node_modules` */
  readonly to: string;
  /** paths below it that are deleted */
  readonly remove: readonly string[];
}

const FILES = ["package.json", "package-lock.json"] as const;

/** What the tree is made from, as a key. */
export async function npmTreeKey(tree: NpmTree): Promise<string> {
  const files = await Promise.all(FILES.map((name) => Deno.readFile(join(tree.folder, name))));
  return contentKey(tree.to, tree.remove.join("\n"), ...files);
}

/** Installs the tree into `root`; what npm downloads stays in the cache. @throws {ImageError} */
export async function installNpmTree(
  cacheDir: string,
  tree: NpmTree,
  root: string,
  signal?: AbortSignal,
): Promise<void> {
  const target = join(root, tree.to);
  await Deno.mkdir(target, { recursive: true });
  for (const name of FILES) await Deno.copyFile(join(tree.folder, name), join(target, name));
  const cache = join(cacheDir, "npm/cache");
  await withLock(join(dirname(cache), "cache.lock"), signal, async () => {
    const flags = ["--cache", cache, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"];
    try {
      // The host's Node.js is not the one that runs it
      await runCommand(["npm", "ci", "--omit", "dev", "--engine-strict=false", ...flags], {
        cwd: target,
        signal,
      });
    } catch (error) {
      throw explainNpm(error, "the packages of its lock file");
    }
  });
  for (const path of ["node_modules/.package-lock.json", ...tree.remove]) await removeAll(join(target, path));
}
