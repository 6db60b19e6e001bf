/**
 * Whether this machine's own KVM can run an ordinary guest, found out by running one: flags and version
 * numbers do not tell. The verdict holds until the next boot.
 *
 * @module
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HostCommandError, runHostCommand, toolEnv } from "../network/host_command.ts";

const PROBE_LIMIT_MS = 60_000;

/** What the probe found. */
export interface KvmVerdict {
  readonly ok: boolean;
  /** sentence that says why */
  readonly reason: string;
}

/** Runs the probe guest. */
export async function probeKvm(): Promise<KvmVerdict> {
  const script = fileURLToPath(new URL("../vmm/probe.ts", import.meta.url));
  const flags = [
    "--quiet",
    "--no-prompt",
    "--no-lock",
    "--cached-only",
    "--allow-ffi",
  ];
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...flags, script],
    env: toolEnv(ownVariables()),
    clearEnv: true,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(PROBE_LIMIT_MS),
  }).output();
  const lines = new TextDecoder().decode(output.stdout).trim().split("\n");
  try {
    const { ok, reason } = JSON.parse(lines.at(-1) ?? "") as { ok?: unknown; reason?: unknown };
    return { ok: ok === true, reason: String(reason) };
  } catch {
    // A probe that dies or says something else has shown that this KVM is not to be relied on.
    const detail = new TextDecoder().decode(output.stderr).trim().split("\n").at(-1) ?? "";
    return {
      ok: false,
      reason: `probe guest gave no verdict, exit code ${output.code}: ${detail.slice(0, 200)}`,
    };
  }
}

function ownVariables(): Record<string, string> {
  return Object.fromEntries(["HOME", "DENO_DIR", "XDG_CACHE_HOME"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  }));
}

/** What a verdict depends on. */
async function circumstances(): Promise<string> {
  try {
    const bootId = await runHostCommand(["cat", "/proc/sys/kernel/random/boot_id"]);
    return `${new TextDecoder().decode(bootId).trim()} ${Deno.version.deno} ${Deno.uid()}`;
  } catch (error) {
    if (error instanceof HostCommandError) return "";
    throw error;
  }
}

/** The verdict, from a file in the state folder where there is one of this boot. */
export async function cachedKvmVerdict(stateDir: string): Promise<KvmVerdict> {
  const path = join(stateDir, "kvm-verdict.json");
  const now = await circumstances();
  try {
    const known = JSON.parse(await Deno.readTextFile(path)) as { circumstances: string; verdict: KvmVerdict };
    if (now !== "" && known.circumstances === now) return known.verdict;
  } catch {
    // None yet, or a damaged one: the probe makes a new one.
  }
  const verdict = await probeKvm();
  await Deno.mkdir(stateDir, { recursive: true, mode: 0o700 });
  await Deno.writeTextFile(path, JSON.stringify({ circumstances: now, verdict }));
  return verdict;
}
