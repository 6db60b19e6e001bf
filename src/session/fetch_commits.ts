/**
 * Has the guest pack what its agent committed, and takes it in bounds.
 *
 * @module
 */

import { join } from "node:path";
import { AGENT_ENV } from "../../agent-images/agent_spec.ts";
import { type AgentCommits, BaseHistory, MAX_BUNDLE_BYTES } from "./agent_commits.ts";
import { BundleError } from "./bundle_header.ts";
import type { Session } from "./session.ts";
import { TextTail } from "./text_tail.ts";

const LIMIT_MS = 5 * 60_000;

/** What git says where there is nothing to pack, or no repository any more. */
const NOTHING =
  /empty bundle|need a repository|not a git repository|unknown revision|ambiguous argument|not a valid object|bad revision/i;

/** Where things are. */
export interface FetchCommitsOptions {
  /** archive that went into the guest */
  readonly beforeTar: string;
  /** folder for temporary files, which its owner removes */
  readonly folder: string;
  /** file to make: the commits' objects */
  readonly packPath: string;
  /** file to make: an archive of their patches */
  readonly patchesTarPath: string;
}

/** Fetches the commits; null where there are none. @throws {BundleError} when the guest's bundle is no good */
export async function fetchAgentCommits(
  session: Pick<Session, "guest" | "within">,
  options: FetchCommitsOptions,
): Promise<AgentCommits | null> {
  const history = await BaseHistory.unpack(options.beforeTar, options.folder);
  if (history === undefined) return null;
  const bundlePath = join(options.folder, "agent.bundle");
  if (!await session.within(LIMIT_MS, () => writeBundle(session, bundlePath, history.base))) return null;
  const commits = await history.read(bundlePath, options);
  return commits.count === 0 ? null : commits;
}

async function writeBundle(
  session: Pick<Session, "guest">,
  path: string,
  base: string | null,
): Promise<boolean> {
  const stderr = new TextTail(4096);
  using file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
  let byteCount = 0;
  let isTooLarge = false;
  const range = base === null ? ["HEAD"] : ["HEAD", `^${base}`];
  const process = await session.guest.exec({
    argv: ["git", "-C", "/workspace", "bundle", "create", "--quiet", "--version=2", "-", ...range],
    env: { ...AGENT_ENV, LC_ALL: "C", GIT_TERMINAL_PROMPT: "0" },
    cwd: "/",
    user: "agent",
    onStdout: async (chunk) => {
      byteCount += chunk.length;
      isTooLarge ||= byteCount > MAX_BUNDLE_BYTES;
      if (isTooLarge) return process.close();
      for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
    },
    onStderr: (chunk) => stderr.push(chunk),
  });
  const exit = await process.exit.catch(() => null);
  process.close();
  if (isTooLarge) throw new BundleError(`Agent's commits are over ${MAX_BUNDLE_BYTES / 2 ** 20} MiB`);
  if (exit?.exitCode === 0) return true;
  const why = stderr.lastLines(1);
  if (NOTHING.test(stderr.text) || exit?.exitCode === 127) return false;
  throw new BundleError(`Guest did not pack the agent's commits: ${why === "" ? "no reason given" : why}`);
}
