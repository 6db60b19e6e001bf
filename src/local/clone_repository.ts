/**
 * Clones a repository for one task: on this machine and with the user's own git, so that its credentials work and never go
 * into a VM.
 *
 * @module
 */

import { join } from "node:path";
import { removeAll } from "../images/build_once.ts";
import { stateDir } from "../images/paths.ts";
import { isAlive, ownId } from "../session/owner.ts";
import { LocalError } from "./local_error.ts";

const PROTOCOLS = ["https", "ssh", "file", "git"] as const;
/** `user@host:path`, which is ssh. */
const SCP_LIKE = /^[A-Za-z0-9._-]+@[A-Za-z0-9][A-Za-z0-9.-]*:[^:]/;
const MAX_DETAIL_LENGTH = 400;

/** A repository elsewhere. */
export interface RemoteRepository {
  readonly url: string;
  /** branch or tag (undefined: the remote's default) */
  readonly branch: string | undefined;
}

/** Reads `URL#branch`; undefined for what is a folder. @throws {LocalError} for a URL of a protocol that is not taken */
export function parseRepository(text: string): RemoteRepository | undefined {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text)?.[1]?.toLowerCase();
  if (scheme === undefined && !SCP_LIKE.test(text)) return undefined;
  if (scheme !== undefined && !PROTOCOLS.some((known) => known === scheme)) {
    throw new LocalError("usage", `--repo takes URLs of ${PROTOCOLS.join(", ")}: received "${scheme}://"`);
  }
  const [url = "", branch, ...rest] = text.split("#");
  if (rest.length > 0 || branch === "" || branch?.startsWith("-")) {
    throw new LocalError("usage", `--repo takes URL#branch: received "${withoutPassword(text)}"`);
  }
  return { url, branch };
}

/** A URL as it may be shown. */
export function withoutPassword(text: string): string {
  return text.replace(/(\/\/[^/@:\s]*):[^/@\s]*@/g, "$1:…@");
}

/** A clone, which goes with its owner. */
export interface ClonedRepository extends AsyncDisposable {
  readonly folder: string;
}

/** How a repository is cloned. */
export interface CloneOptions {
  readonly signal: AbortSignal;
  /** folder of running things (default: the machine's) */
  readonly state?: string;
  /** variables for git beside this process's own */
  readonly env?: Readonly<Record<string, string>>;
}

/** Removes clones whose owner is gone. */
async function sweepClones(state: string, parent: string): Promise<void> {
  for await (const { name } of Deno.readDir(parent)) {
    // The owner's id, then the clone's own
    if (!isAlive(state, name.slice(0, 36))) await removeAll(join(parent, name));
  }
}

function cloneArguments({ url, branch }: RemoteRepository, folder: string): string[] {
  const settings = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    // Large files stay pointers: what fetches them is a program of the user's configuration
    "filter.lfs.smudge=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
  ].flatMap((setting) => ["-c", setting]);
  const what = ["--quiet", "--single-branch", "--no-tags", "--no-recurse-submodules", "--template="];
  return [
    ...settings,
    "clone",
    ...what,
    ...(branch === undefined ? [] : [`--branch=${branch}`]),
    "--",
    url,
    folder,
  ];
}

function failure(remote: RemoteRepository, stderr: string): LocalError {
  // deno-lint-ignore no-control-regex
  const lines = withoutPassword(stderr).replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, "").trim().split("\n");
  const why = lines.filter((line) => /^(fatal|error|remote)/.test(line)).join("; ") || lines.at(-1) || "";
  const url = withoutPassword(remote.url);
  return new LocalError("host", `Cannot clone "${url}": ${why.slice(0, MAX_DETAIL_LENGTH) || "git failed"}`);
}

/** Clones a repository into a folder of its own: one branch with all of its history. @throws {LocalError} */
export async function cloneRepository(
  remote: RemoteRepository,
  options: CloneOptions,
): Promise<ClonedRepository> {
  const { signal, state = stateDir() } = options;
  const parent = join(state, "clones");
  await Deno.mkdir(parent, { recursive: true, mode: 0o700 });
  await sweepClones(state, parent);
  const folder = join(parent, `${ownId(state)}-${crypto.randomUUID().slice(0, 8)}`);
  const dispose = (): Promise<void> => removeAll(folder);
  try {
    const { success, stderr } = await new Deno.Command("git", {
      args: cloneArguments(remote, folder),
      env: {
        GIT_ALLOW_PROTOCOL: PROTOCOLS.join(":"),
        GIT_LFS_SKIP_SMUDGE: "1",
        GIT_TERMINAL_PROMPT: Deno.stdin.isTerminal() ? "1" : "0",
        LC_ALL: "C",
        ...options.env,
      },
      stdin: Deno.stdin.isTerminal() ? "inherit" : "null",
      stdout: "null",
      stderr: "piped",
      signal,
    }).output();
    signal.throwIfAborted();
    if (!success) throw failure(remote, new TextDecoder().decode(stderr));
    return { folder, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    if (error instanceof Deno.errors.NotFound) {
      throw new LocalError("host", "git is not installed", { cause: error });
    }
    throw error;
  }
}
