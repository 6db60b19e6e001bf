/**
 * Clones repositories for tasks that name one: over https, with none of this machine's credentials or settings, and from
 * hosts out in the world only.
 *
 * @module
 */

import { DEFAULT_EGRESS, type EgressRequest } from "../network/egress_policy.ts";
import { checkedAddresses, HOST_OUTSIDE, type Outside, OutsideError } from "../network/outside.ts";
import { cloneRepository } from "./clone_repository.ts";
import { LocalError } from "./local_error.ts";
import { packWorkspace } from "./pack_workspace.ts";
import { networkRequest } from "./project_egress.ts";

/** Longest clone, in `ms`. */
const CLONE_LIMIT_MS = 15 * 60_000;

/** What is cloned, and what its task may reach. */
export interface RepoRequest {
  readonly url: string;
  readonly branch?: string | undefined;
  readonly network: EgressRequest | undefined;
}

/** How repositories are fetched. */
export interface FetchRepoOptions {
  /** folder of running things */
  readonly stateDir: string;
  readonly outside?: Outside;
  /** settings of git beside ours */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Settings of git as its variables say them. */
function settingsEnv(settings: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(settings);
  return Object.fromEntries([
    ["GIT_CONFIG_COUNT", `${entries.length}`],
    ...entries.flatMap(([key, value], index) => [
      [`GIT_CONFIG_KEY_${index}`, key],
      [`GIT_CONFIG_VALUE_${index}`, value],
    ]),
  ]);
}

/**
 * Writes the archive `targetPath` of a workspace cloned from a repository, and gives what its task may reach: its
 * `sandbox.toml` takes away from that.
 *
 * @throws {LocalError}
 */
export async function fetchRepo(
  { url, branch, network }: RepoRequest,
  targetPath: string,
  options: FetchRepoOptions & { readonly signal: AbortSignal },
): Promise<EgressRequest> {
  const { stateDir, outside = HOST_OUTSIDE, settings = {} } = options;
  const { hostname, port, protocol, username, password } = new URL(url);
  if (protocol !== "https:" || username !== "" || password !== "") {
    throw new LocalError("usage", "A repository is an https URL without a user and a password");
  }
  const name = hostname.replace(/^\[|\]$/g, "");
  const addresses = await checkedAddresses(outside, name).catch((error) => {
    if (!(error instanceof OutsideError)) throw error;
    throw new LocalError("usage", `Cannot clone "${url}": ${error.message}`, { cause: error });
  });
  const env = {
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_CONFIG_SYSTEM: "/dev/null",
    GIT_ALLOW_PROTOCOL: "https",
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "false",
    HOME: "/nonexistent",
    ...settingsEnv({
      // git connects to an address that was looked at, and to no other that the name may have by then
      "http.curloptResolve": `${hostname}:${port || 443}:${addresses.join(",")}`,
      "http.followRedirects": "false",
      "http.proxy": "",
      "http.lowSpeedLimit": "1000",
      "http.lowSpeedTime": "60",
      "transfer.fsckObjects": "true",
      ...settings,
    }),
  };
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(CLONE_LIMIT_MS)]);
  await using clone = await cloneRepository({ url, branch }, { signal, state: stateDir, env });
  using file = await Deno.open(targetPath, { write: true, createNew: true, mode: 0o600 });
  for await (const chunk of packWorkspace(clone.folder, () => {})) {
    signal.throwIfAborted();
    for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
  }
  return await networkRequest(network ?? DEFAULT_EGRESS, clone.folder);
}
