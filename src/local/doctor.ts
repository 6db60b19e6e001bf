/**
 * Looks at this machine and says what works, what is missing, and which command would fix it.
 *
 * @module
 */

import { type EmulatedHostStatus, emulatedHostStatus } from "../emulated/host.ts";
import { type HostTool, installCommand, missingTools, type ToolPurpose } from "../images/host_tools.ts";
import { cacheDir, stateDir } from "../images/paths.ts";
import type { HostKind } from "./host_choice.ts";
import { type KvmVerdict, probeKvm } from "./kvm_probe.ts";

/** What the doctor found. */
export interface Diagnosis {
  /** host that tasks would run on */
  readonly host: HostKind;
  readonly kvm: KvmVerdict;
  readonly isRoot: boolean;
  readonly emulatedHost: EmulatedHostStatus;
  /** programs that are missing for this host */
  readonly missing: readonly { readonly tool: string; readonly debianPackage: string }[];
  /** command that installs them (null: nothing is missing) */
  readonly fix: string | null;
  readonly versions: { readonly deno: string; readonly v8: string };
  readonly cacheFolder: string;
  readonly stateFolder: string;
  /** everything that a task needs is there */
  readonly ok: boolean;
}

/** Purposes of programs that a host of this kind needs. */
export function neededPurposes(host: HostKind): ToolPurpose[] {
  return host === "native" ? ["image", "kernel", "network"] : ["image", "kernel", "emulated-host"];
}

/** The command, as a user would type it, that installs programs. */
export function fixCommand(missing: readonly HostTool[]): string | null {
  if (missing.length === 0) return null;
  return `${Deno.uid() === 0 ? "" : "sudo "}${installCommand(missing).join(" ")}`;
}

/** Examines this machine; the probe guest is run afresh. */
export async function diagnose(): Promise<Diagnosis> {
  const kvm = await probeKvm();
  const isRoot = Deno.uid() === 0;
  const host: HostKind = kvm.ok && isRoot ? "native" : "emulated";
  const missing = await missingTools(...neededPurposes(host));
  return {
    host,
    kvm,
    isRoot,
    emulatedHost: await emulatedHostStatus(),
    missing: missing.map(({ tool, debianPackage }) => ({ tool, debianPackage })),
    fix: fixCommand(missing),
    versions: { deno: Deno.version.deno, v8: Deno.version.v8 },
    cacheFolder: cacheDir(),
    stateFolder: stateDir(),
    ok: missing.length === 0,
  };
}
