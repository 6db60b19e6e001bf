/**
 * `sandbox doctor`: says what works on this machine, what is missing, and what would fix it.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { diagnose, type Diagnosis } from "../../local/doctor.ts";
import { ensureTools } from "../../local/install_tools.ts";
import { EXIT_CODES } from "../summary.ts";

const OPTIONS = {
  json: { type: "boolean", default: false },
  install: { type: "boolean", default: false },
} as const;

/** Lines for people. */
export function renderDiagnosis(diagnosis: Diagnosis): string[] {
  const { kvm, missing, fix, emulatedHost } = diagnosis;
  const host = diagnosis.host === "native" ? "this machine's own KVM" : "the emulated KVM host";
  return [
    `KVM:       ${kvm.ok ? "whole" : "not usable"}: ${kvm.reason}`,
    `User:      ${diagnosis.isRoot ? "root" : "not root: VMs run in the emulated host"}`,
    `Host:      tasks run on ${host}`,
    `Emulated:  ${emulatedHost.running ? `running, pid ${emulatedHost.pid}` : "not running"}`,
    `Missing:   ${missing.length === 0 ? "nothing" : missing.map((tool) => tool.tool).join(", ")}`,
    ...(fix === null ? [] : [`Fix:       ${fix}`]),
    `Deno:      ${diagnosis.versions.deno}`,
    `Cache:     ${diagnosis.cacheFolder}`,
    `State:     ${diagnosis.stateFolder}`,
  ];
}

/** Runs the command and gives its exit code. */
export async function doctor(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  if (values.install) {
    await ensureTools({ install: true, confirm: () => true, onLine: (line) => console.error(`  ${line}`) });
  }
  const diagnosis = await diagnose();
  if (values.json) console.log(JSON.stringify(diagnosis, null, 2));
  else for (const line of renderDiagnosis(diagnosis)) console.log(line);
  return diagnosis.ok ? EXIT_CODES.done : EXIT_CODES.host;
}
