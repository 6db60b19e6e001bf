/**
 * Makes a patch out of two sets of files with git, without git ever looking into a folder that a guest wrote:
 * contents are fed to `git fast-import` in a fresh bare repository of our own, and compared there. No
 * configuration, attribute, hook or ignore file of the user's, the machine's or the guest's has a say.
 *
 * @module
 */

import { join } from "node:path";
import { HostCommandError, runHostCommand, spawnHostCommand, toolEnv } from "../network/host_command.ts";
import { stringBytes } from "./tar_reader.ts";

/** Variables that keep git to what it is told. */
export const GIT_ENV = {
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_ATTR_NOSYSTEM: "1",
  GIT_TERMINAL_PROMPT: "0",
} as const;

const IDENTITY = "paddock <paddock@localhost> 0 +0000";

/** How a file of one version is to be committed. */
export interface VersionedFile {
  /** path, one character per byte */
  readonly path: string;
  readonly gitMode: string;
  /** mark of the blob that holds its content */
  readonly mark: number;
}

/** One changed path. */
export interface ChangedPath {
  readonly path: string;
  readonly kind: "added" | "modified" | "deleted";
}

/** A path as fast-import wants it: C-quoted, every odd byte in octal. */
export function quotePath(path: string): string {
  const quoted = path.replace(
    /["\\]|[^\x20-\x7e]/g,
    (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`,
  );
  return `"${quoted}"`;
}

/** A bare repository that exists for one comparison. */
export class GitHistory {
  readonly #gitDir: string;
  readonly #home: string;

  private constructor(folder: string) {
    this.#home = folder;
    this.#gitDir = join(folder, "history.git");
  }

  /** Makes the repository in a folder of the session. */
  static async create(folder: string): Promise<GitHistory> {
    const history = new GitHistory(folder);
    const env = { ...GIT_ENV, HOME: folder };
    await runHostCommand(["git", "init", "--quiet", "--bare", "--template=", history.#gitDir], { env });
    return history;
  }

  /** Runs `git fast-import`; `write` sends it its commands. */
  async import(write: (send: (bytes: Uint8Array) => Promise<void>) => Promise<void>): Promise<void> {
    const child = spawnHostCommand(this.#git(["fast-import", "--quiet", "--done"]), {
      env: toolEnv(this.#env()),
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    });
    const stderr = new Response(child.stderr).text();
    const writer = child.stdin.getWriter();
    let failure: unknown;
    try {
      await write((bytes) => writer.write(bytes));
      await writer.write(stringBytes("done\n"));
      await writer.close();
    } catch (error) {
      failure = error;
      await writer.abort().catch(() => {/* it is gone already */});
    }
    const [status, text] = await Promise.all([child.status, stderr]);
    if (status.success && failure === undefined) return;
    if (failure !== undefined && !(failure instanceof Deno.errors.BrokenPipe)) throw failure;
    throw new HostCommandError(`Cannot import files into git: ${text.trim().slice(0, 400)}`, {
      tool: "git",
      exitCode: status.code,
      cause: failure,
    });
  }

  /** Paths that the ignore files below `ignoreFolder` exclude. */
  async ignored(ignoreFolder: string, paths: readonly string[]): Promise<Set<string>> {
    if (paths.length === 0) return new Set();
    const child = spawnHostCommand(
      this.#git(["--work-tree", ignoreFolder, "check-ignore", "--no-index", "-z", "--stdin"]),
      { env: toolEnv(this.#env()), cwd: ignoreFolder, stdin: "piped", stdout: "piped", stderr: "piped" },
    );
    const output = child.output();
    const writer = child.stdin.getWriter();
    for (const path of paths) await writer.write(stringBytes(`${path}\0`));
    await writer.close();
    const { code, stdout, stderr } = await output;
    if (code !== 0 && code !== 1) {
      const detail = new TextDecoder().decode(stderr).trim().slice(0, 400);
      throw new HostCommandError(`Cannot apply ignore rules: ${detail}`, { tool: "git", exitCode: code });
    }
    const text = Array.from(stdout, (byte) => String.fromCharCode(byte)).join("");
    return new Set(text.split("\0").filter((path) => path !== ""));
  }

  /** Writes the patch from branch `before` to branch `after` into a file. */
  async writePatch(patchPath: string): Promise<void> {
    const child = spawnHostCommand(
      this.#git([
        "diff",
        "--binary",
        "--full-index",
        "--no-ext-diff",
        "--no-textconv",
        "--no-renames",
        "--no-color",
        "before",
        "after",
      ]),
      { env: toolEnv(this.#env()), stdin: "null", stdout: "piped", stderr: "null" },
    );
    const file = await Deno.open(patchPath, { write: true, createNew: true, mode: 0o600 });
    await child.stdout.pipeTo(file.writable);
    const { code } = await child.status;
    if (code !== 0) throw new HostCommandError("Cannot write the patch", { tool: "git", exitCode: code });
  }

  #env(): Record<string, string> {
    return { ...GIT_ENV, HOME: this.#home };
  }

  #git(args: readonly string[]): string[] {
    return ["git", "--git-dir", this.#gitDir, ...args];
  }
}

/** The fast-import commands of one version. */
export function commitCommands(branch: string, files: readonly VersionedFile[]): Uint8Array {
  const lines = [`commit refs/heads/${branch}`, `committer ${IDENTITY}`, "data 0", "deleteall"];
  for (const file of files) lines.push(`M ${file.gitMode} :${file.mark} ${quotePath(file.path)}`);
  return stringBytes(lines.join("\n") + "\n");
}

/** The fast-import command that opens a blob of a known size; the content follows it. */
export function blobHeader(mark: number, sizeBytes: number): Uint8Array {
  return stringBytes(`blob\nmark :${mark}\ndata ${sizeBytes}\n`);
}
