/**
 * The commits that an agent made, as patches. The guest packs them; here the pack is proven object by object, in a
 * fresh repository of our own that holds the history which went in. No git command runs in a folder that the guest wrote.
 *
 * @module
 */

import { dirname, join } from "node:path";
import { runHostCommand, spawnHostCommand, toolEnv } from "../network/host_command.ts";
import { BundleError, readBundleHeader } from "./bundle_header.ts";
import { GIT_ENV } from "./git_history.ts";
import { byteStringToText } from "./tar_reader.ts";
import { TarFileWriter } from "./tar_writer.ts";
import { checkedEntries, readFileChunks } from "./workspace_scan.ts";

/** Largest bundle that is taken from a guest, in bytes. */
export const MAX_BUNDLE_BYTES = 256 * 1024 * 1024;
/** Most commits that become patches. */
const MAX_COMMITS = 1000;
/** Bounds of a git that reads what a guest wrote: a megabyte can unpack to gigabytes. */
const LIMITS = `ulimit -v 4194304; ulimit -f 4194304; ulimit -t 120; exec "$@"`;
/** Of a repository's folder, what its history consists of. */
const HISTORY = /^\.git\/(HEAD|packed-refs|shallow|refs\/.+|objects\/(?!info\/).+)$/;
const CONFIG = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";

/** What the agent committed. */
export interface AgentCommits {
  readonly count: number;
  /** commit that HEAD was at the start (null: there was none) */
  readonly base: string | null;
  /** commit that HEAD was at the end */
  readonly tip: string;
}

/** The history that went into the guest, in a repository of our own. */
export class BaseHistory {
  readonly #folder: string;
  readonly #gitDir: string;
  /** commit that HEAD was (null: no commit yet) */
  readonly base: string | null;

  private constructor(folder: string, gitDir: string, base: string | null) {
    this.#folder = folder;
    this.#gitDir = gitDir;
    this.base = base;
  }

  /** Takes the history out of the archive that went in; undefined where it holds no repository that this can read. */
  static async unpack(beforeTar: string, folder: string): Promise<BaseHistory | undefined> {
    const gitDir = join(folder, "base.git");
    let hasHead = false;
    for await (const { path, entry } of checkedEntries(readFileChunks(beforeTar), () => {})) {
      if (path.startsWith(".git/reftable/")) return undefined;
      const name = byteStringToText(path);
      if (entry.kind !== "file" || name === undefined || !HISTORY.test(name)) continue;
      const to = join(gitDir, name.slice(".git/".length));
      await Deno.mkdir(dirname(to), { recursive: true });
      using file = await Deno.open(to, { write: true, create: true, truncate: true, mode: 0o600 });
      for await (const chunk of entry.content) {
        for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
      }
      hasHead ||= path === ".git/HEAD";
    }
    if (!hasHead) return undefined;
    for (const name of ["objects", "refs"]) await Deno.mkdir(join(gitDir, name), { recursive: true });
    await Deno.writeTextFile(join(gitDir, "config"), CONFIG);
    const history = new BaseHistory(folder, gitDir, null);
    const found = await history.#git(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], [0, 1]);
    return new BaseHistory(folder, gitDir, found.trim() === "" ? null : found.trim());
  }

  /** Reads a bundle of what the agent committed; writes the proven pack, and an archive of its patches. */
  async read(
    bundlePath: string,
    targets: { readonly packPath: string; readonly patchesTarPath: string },
  ): Promise<AgentCommits> {
    const header = readBundleHeader(await firstBytes(bundlePath, 64 * 1024));
    await this.#importPack(bundlePath, header.packOffset);
    const range = this.base === null ? [header.tip] : [`${this.base}..${header.tip}`];
    const count = Number(await this.#git(["rev-list", "--count", ...range, "--"]));
    if (count > MAX_COMMITS) throw new BundleError(`Agent made ${count} commits: over ${MAX_COMMITS}`);
    await this.#writePatches(range, targets.patchesTarPath);
    using source = await Deno.open(bundlePath);
    await source.seek(header.packOffset, Deno.SeekMode.Start);
    using target = await Deno.open(targets.packPath, { write: true, createNew: true, mode: 0o600 });
    await source.readable.pipeTo(target.writable);
    return { count, base: this.base, tip: header.tip };
  }

  async #importPack(bundlePath: string, packOffset: number): Promise<void> {
    const args = ["index-pack", "--stdin", "--fix-thin", "--strict", `--max-input-size=${MAX_BUNDLE_BYTES}`];
    const child = spawnHostCommand(this.#limited(args), {
      env: toolEnv(this.#env()),
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    });
    const stderr = new Response(child.stderr).text();
    const source = await Deno.open(bundlePath);
    await source.seek(packOffset, Deno.SeekMode.Start);
    // git may refuse before it has read all; its exit code says whether
    await source.readable.pipeTo(child.stdin).catch(() => {});
    const [{ success }, text] = await Promise.all([child.status, stderr]);
    if (success) return;
    // deno-lint-ignore no-control-regex
    const why = text.trim().split("\n").at(0)?.replace(/[\x00-\x1f\x7f-\x9f]/g, "").slice(0, 200) ?? "";
    throw new BundleError(`Cannot read the agent's commits: ${why === "" ? "git refuses them" : why}`);
  }

  async #writePatches(range: readonly string[], tarPath: string): Promise<void> {
    const out = join(this.#folder, "patches");
    await Deno.mkdir(out);
    const plain = [
      "--no-ext-diff",
      "--no-textconv",
      "--no-renames",
      "--no-color",
      "--no-attach",
      "--no-thread",
    ];
    await this.#git([
      "format-patch",
      "--quiet",
      "--root",
      "--binary",
      "--full-index",
      ...plain,
      "-o",
      out,
      ...range,
    ]);
    const names = Array.from(Deno.readDirSync(out), ({ name }) => name).sort();
    using writer = await TarFileWriter.create(tarPath);
    for (const name of names) {
      const { size } = await Deno.stat(join(out, name));
      const member = { kind: "file", name, mode: 0o644, mtime: 0, sizeBytes: size } as const;
      await writer.add(member, readFileChunks(join(out, name)));
    }
    await writer.finish();
  }

  async #git(args: readonly string[], okCodes: readonly number[] = [0]): Promise<string> {
    const output = await runHostCommand(this.#limited(args), { env: this.#env(), okCodes });
    return new TextDecoder().decode(output);
  }

  #limited(args: readonly string[]): string[] {
    return ["sh", "-c", LIMITS, "sh", "git", "--git-dir", this.#gitDir, ...args];
  }

  #env(): Record<string, string> {
    return { ...GIT_ENV, HOME: this.#folder };
  }
}

async function firstBytes(path: string, maxBytes: number): Promise<Uint8Array> {
  using file = await Deno.open(path);
  const buffer = new Uint8Array(maxBytes);
  let length = 0;
  for (let count: number | null; (count = await file.read(buffer.subarray(length))) !== null;) {
    length += count;
    if (count === 0 || length === maxBytes) break;
  }
  return buffer.subarray(0, length);
}
