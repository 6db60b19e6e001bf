/**
 * The repository that a task works on: a folder of the user's or a clone for this task, and where its result is applied.
 *
 * @module
 */

import { join } from "node:path";
import type { ApiClient } from "../api/client.ts";
import type { TaskResult } from "../session/task.ts";
import { ApplyTarget } from "./apply_result.ts";
import {
  type ClonedRepository,
  cloneRepository,
  parseRepository,
  withoutPassword,
} from "./clone_repository.ts";
import { LocalError } from "./local_error.ts";
import { checkWorkspaceFolder } from "./pack_workspace.ts";

/** What the user wants of a repository. */
export interface RepositoryOptions {
  /** folder to give the agent, or URL#branch to clone (default: an empty workspace) */
  readonly repo?: string | undefined;
  /** apply the result to the folder's repository */
  readonly apply?: boolean | undefined;
  /** branch to make for it (default: one named after the task) */
  readonly branch?: string | undefined;
  /** asks whether to apply, given the lines of a diffstat (default: yes) */
  readonly confirmApply?: ((diffStat: readonly string[]) => boolean) | undefined;
}

/** The repository of one task. */
export class TaskRepository implements AsyncDisposable {
  /** folder to pack (undefined: none) */
  readonly folder: string | undefined;
  readonly #clone: ClonedRepository | undefined;
  readonly #target: ApplyTarget | undefined;
  readonly #confirm: RepositoryOptions["confirmApply"];

  private constructor(facts: {
    folder: string | undefined;
    clone: ClonedRepository | undefined;
    target: ApplyTarget | undefined;
    confirm: RepositoryOptions["confirmApply"];
  }) {
    this.folder = facts.folder;
    this.#clone = facts.clone;
    this.#target = facts.target;
    this.#confirm = facts.confirm;
  }

  /** Finds or clones it. @throws {LocalError} before anything expensive is done */
  static async open(
    options: RepositoryOptions & {
      readonly signal: AbortSignal;
      readonly onNotice: (message: string) => void;
    },
  ): Promise<TaskRepository> {
    const { repo, signal } = options;
    const remote = repo === undefined ? undefined : parseRepository(repo);
    if (options.apply === true && (repo === undefined || remote !== undefined)) {
      throw new LocalError("usage", "--apply needs --repo with a folder of this machine");
    }
    if (remote !== undefined) {
      options.onNotice(`Cloning ${withoutPassword(remote.url)}`);
      const clone = await cloneRepository(remote, { signal });
      return new TaskRepository({ folder: clone.folder, clone, target: undefined, confirm: undefined });
    }
    if (repo !== undefined) await checkWorkspaceFolder(repo);
    const target = options.apply === true ? await ApplyTarget.open(repo ?? ".", options.branch) : undefined;
    return new TaskRepository({ folder: repo, clone: undefined, target, confirm: options.confirmApply });
  }

  /** Applies the result if that is wanted; gives the branch, if one was made. @throws {LocalError} */
  async apply(
    client: ApiClient,
    task: { readonly id: string; readonly title: string; readonly result: TaskResult },
  ): Promise<string | undefined> {
    if (this.#target === undefined || task.result.outcome !== "done") return undefined;
    const folder = await Deno.makeTempDir({ prefix: "paddock-apply-" });
    try {
      const patchPath = join(folder, "changes.patch");
      const packPath = join(folder, "commits.pack");
      await client.download(task.id, "patch", patchPath);
      await client.download(task.id, "commits", packPath);
      if (this.#confirm?.(await this.#target.diffStat(patchPath)) === false) return undefined;
      const { id, title } = task;
      return await this.#target.apply({ id, title, patchPath, packPath, commits: task.result.commits });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#clone?.[Symbol.asyncDispose]();
  }
}
