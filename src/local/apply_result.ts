/**
 * Puts a task's result on a new branch of the user's repository. Objects and that one branch are all that is written:
 * the work tree, the index and the current branch stay as they are.
 *
 * @module
 */

import { join } from "node:path";
import { runHostCommand } from "../network/host_command.ts";
import type { TaskResult } from "../session/task.ts";
import { LocalError } from "./local_error.ts";

const NO_COMMIT = "0".repeat(40);
const IDENTITY = "Paddock";
const EMAIL = "paddock@localhost";
const MAX_SUBJECT_LENGTH = 72;

/** A repository as it was when the task began. */
export class ApplyTarget {
  readonly #repo: string;
  readonly #head: string;
  /** the work tree, with what is not committed */
  readonly #tree: string;
  /** branch to make (undefined: one named after the task) */
  readonly #branch: string | undefined;

  private constructor(facts: { repo: string; head: string; tree: string; branch: string | undefined }) {
    this.#repo = facts.repo;
    this.#head = facts.head;
    this.#tree = facts.tree;
    this.#branch = facts.branch;
  }

  /** Looks at the repository before the task. @throws {LocalError} when nothing could be applied to it */
  static async open(repo: string, branch: string | undefined): Promise<ApplyTarget> {
    const prefix = await git(repo, ["rev-parse", "--is-inside-work-tree", "--show-prefix"]).catch(() => "");
    if (prefix !== "true\n") {
      throw new LocalError("usage", `--apply needs the top folder of a git repository: "${repo}" is none`);
    }
    const head = await git(repo, ["rev-parse", "--verify", "HEAD^{commit}"]).catch(() => "");
    if (head === "") {
      throw new LocalError("usage", `--apply needs a commit to start from: "${repo}" has none`);
    }
    if (branch !== undefined) await checkBranch(repo, branch);
    const tree = await withIndex(async (index) => {
      await git(repo, ["read-tree", "HEAD"], index);
      await git(repo, ["add", "--all"], index);
      return await git(repo, ["write-tree"], index);
    });
    return new ApplyTarget({ repo, head, tree, branch });
  }

  /** What the patch changes, as lines. */
  async diffStat(patchPath: string): Promise<string[]> {
    if ((await Deno.stat(patchPath)).size === 0) return [];
    const stat = await git(this.#repo, ["apply", "--numstat", "--stat", "--summary", patchPath]);
    return stat.split("\n").filter((line) => !/^(\d+|-)\t/.test(line));
  }

  /** Makes the branch and gives its name; undefined where there is nothing to put on it. @throws {LocalError} */
  async apply(options: {
    readonly id: string;
    readonly title: string;
    readonly patchPath: string;
    /** the agent's commits, if it made any */
    readonly commits: TaskResult["commits"];
    readonly packPath: string;
  }): Promise<string | undefined> {
    const { commits, patchPath } = options;
    const branch = this.#branch ?? `paddock/${options.id}`;
    await checkBranch(this.#repo, branch);
    let tip = this.#head;
    if (commits !== null && "tip" in commits) {
      await this.#importCommits(options.packPath);
      tip = await git(this.#repo, ["rev-parse", "--verify", `${commits.tip}^{commit}`]);
    }
    const isEmpty = (await Deno.stat(patchPath)).size === 0;
    if (isEmpty && tip === this.#head) return undefined;
    // What was not committed when the task began has a commit of its own, so that the agent's holds only the agent's work
    if (tip === this.#head) tip = await this.#commit(tip, this.#tree, "Local changes before the task");
    const tree = isEmpty ? this.#tree : await this.#patched(patchPath);
    tip = await this.#commit(tip, tree, options.title);
    await git(this.#repo, ["update-ref", `refs/heads/${branch}`, tip, NO_COMMIT]);
    return branch;
  }

  async #patched(patchPath: string): Promise<string> {
    return await withIndex(async (index) => {
      await git(this.#repo, ["read-tree", this.#tree], index);
      try {
        await git(this.#repo, ["apply", "--cached", "--whitespace=nowarn", patchPath], index);
      } catch (cause) {
        throw new LocalError("host", `The changes do not apply: they are in "${patchPath}"`, { cause });
      }
      return await git(this.#repo, ["write-tree"], index);
    });
  }

  /** A commit of the tree on top of another; the other itself where that has this tree. */
  async #commit(parent: string, tree: string, message: string): Promise<string> {
    if (await git(this.#repo, ["rev-parse", `${parent}^{tree}`]) === tree) return parent;
    const env = {
      GIT_AUTHOR_NAME: IDENTITY,
      GIT_AUTHOR_EMAIL: EMAIL,
      GIT_COMMITTER_NAME: IDENTITY,
      GIT_COMMITTER_EMAIL: EMAIL,
    };
    // deno-lint-ignore no-control-regex
    const subject = message.replace(/[\x00-\x1f\x7f]+/g, " ").trim().slice(0, MAX_SUBJECT_LENGTH);
    return await git(this.#repo, ["commit-tree", "--no-gpg-sign", "-p", parent, "-m", subject, tree], env);
  }

  /** The pack was proven when it left the guest; here it is proven again. */
  async #importCommits(packPath: string): Promise<void> {
    const script = `exec git "$@" < "$0"`;
    const args = gitArguments(this.#repo, ["index-pack", "--stdin", "--fix-thin", "--strict"]);
    try {
      await runHostCommand(["sh", "-c", script, packPath, ...args], { env: gitEnv() });
    } catch (cause) {
      throw new LocalError("host", "The agent's commits cannot be taken over: see patches/", { cause });
    }
  }
}

async function checkBranch(repo: string, branch: string): Promise<void> {
  const isName = await git(repo, ["check-ref-format", "--branch", branch]).then(() => true, () => false);
  if (!isName || branch.startsWith("-")) throw new LocalError("usage", `"${branch}" is no name for a branch`);
  const found = await git(repo, ["rev-parse", "--verify", "--quiet", `refs/heads/${branch}`]).catch(() => "");
  if (found !== "") {
    throw new LocalError("usage", `There is a branch "${branch}" already: choose another with --branch`);
  }
}

/** Does something with an index of its own, so that the user's stays as it is. */
async function withIndex<T>(use: (env: Record<string, string>) => Promise<T>): Promise<T> {
  const folder = await Deno.makeTempDir({ prefix: "paddock-apply-" });
  try {
    return await use({ GIT_INDEX_FILE: join(folder, "index") });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function gitEnv(): Record<string, string> {
  return { HOME: Deno.env.get("HOME") ?? "/" };
}

/** Nothing that the repository or its configuration names is started. */
function gitArguments(repo: string, args: readonly string[]): string[] {
  const settings = ["safe.directory=*", "core.fsmonitor=false", "core.hooksPath=/dev/null", "gc.auto=0"];
  return ["-C", repo, ...settings.flatMap((setting) => ["-c", setting]), ...args];
}

async function git(repo: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const output = await runHostCommand(["git", ...gitArguments(repo, args)], { env: { ...gitEnv(), ...env } });
  return new TextDecoder().decode(output).replace(/\n$/, "");
}
