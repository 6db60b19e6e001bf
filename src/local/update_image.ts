/**
 * Brings an agent's image to another version: builds it, boots it, has the agent say its version, and only then
 * puts it in the place of the old one.
 *
 * @module
 */

import type { AgentSpec } from "../../agent-images/agent_spec.ts";
import { execInEmulatedHost, startEmulatedHost } from "../emulated/host.ts";
import { currentSpec, removeChoice, withChoice, writeChoice } from "../images/chosen_version.ts";
import { latestVersion, resolveVersion } from "../images/find_version.ts";
import { requireTools } from "../images/host_tools.ts";
import { cacheDir, stateDir } from "../images/paths.ts";
import {
  adoptCandidate,
  buildCandidate,
  type Candidate,
  dropCandidate,
  imageOf,
  prepareImage,
} from "../images/prepare.ts";
import type { OnProgress } from "../images/progress.ts";
import { checkTrial, type ImageTrial, tryImage } from "../session/try_image.ts";
import { chooseHost } from "./host_choice.ts";
import { LocalError } from "./local_error.ts";

/** Options of {@linkcode updateImage}. */
export interface UpdateOptions {
  /** version to take (default: the registry's latest) */
  readonly version?: string | undefined;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
}

/** What became of an update. */
export interface ImageUpdate {
  readonly from: string;
  /** (null: nobody publishes versions of this agent) */
  readonly to: string | null;
}

/** Uses the version that the specification pins again, and has its image ready. */
export async function pinImage(spec: AgentSpec, options: UpdateOptions): Promise<ImageUpdate> {
  const { version: from } = await currentSpec(cacheDir(), spec);
  await removeChoice(cacheDir(), spec.name);
  await prepareImage(spec, options);
  return { from, to: spec.version };
}

/** Updates an agent's image. @throws when the new version cannot be had or does not run: the old one stays in use */
export async function updateImage(spec: AgentSpec, options: UpdateOptions): Promise<ImageUpdate> {
  const { signal } = options;
  const cache = cacheDir();
  const { version: from } = await currentSpec(cache, spec);
  if (spec.release === undefined) return { from, to: null };
  const packageName = spec.release.npm;
  const to = options.version ?? await latestVersion(packageName, signal);
  if (to === from) return { from, to };
  if (to === spec.version) return await pinImage(spec, options);
  const choice = await resolveVersion(cache, spec, { version: to, packageName, signal });
  const candidate = await buildCandidate(withChoice(cache, spec, choice), options);
  try {
    options.onProgress({ type: "notice", message: `Trying ${spec.title} ${to} in a VM` });
    checkTrial(await tryOnHost(candidate, spec, options), to);
  } catch (error) {
    await dropCandidate(spec.name, candidate);
    throw error;
  }
  await adoptCandidate(spec.name, candidate);
  await writeChoice(cache, spec.name, choice);
  return { from, to };
}

/** Where VMs run on this machine. */
async function tryOnHost(candidate: Candidate, spec: AgentSpec, options: UpdateOptions): Promise<ImageTrial> {
  const { signal } = options;
  const { kind } = await chooseHost(stateDir());
  if (kind === "native") {
    await requireTools("network");
    return await tryImage(imageOf(candidate.entry), spec, { stateDir: stateDir(), signal });
  }
  const script =
    `cd /paddock && exec deno run --quiet --no-check --no-lock --allow-all src/local/try_image_main.ts "$@"`;
  const argv = ["sh", "-c", script, "sh", spec.name, JSON.stringify(candidate.entry)];
  const child = execInEmulatedHost(await startEmulatedHost(options), { argv });
  const kill = (): void => child.kill();
  signal.addEventListener("abort", kill, { once: true });
  try {
    await child.stdin.close();
    const [{ code }, stdout, stderr] = await Promise.all([
      child.status,
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    signal.throwIfAborted();
    if (code === 0) return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as ImageTrial;
    throw new LocalError(
      "host",
      `The new image was not tried: ${stderr.trim().split("\n").at(0) ?? `exit code ${code}`}`,
    );
  } finally {
    signal.removeEventListener("abort", kill);
  }
}
