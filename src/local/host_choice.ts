/**
 * Decides which host runs the VMs: this machine, or the emulated one.
 *
 * @module
 */

import { cachedKvmVerdict } from "./kvm_probe.ts";
import { LocalError } from "./local_error.ts";

/** What runs the VMs. */
export type HostKind = "native" | "emulated";

/** A decision with its reason. */
export interface HostChoice {
  readonly kind: HostKind;
  /** sentence that says why */
  readonly reason: string;
}

/** Decides; `PADDOCK_HOST` set to `native` or `emulated` decides for the user. */
export async function chooseHost(
  stateDir: string,
  options: { readonly needsRoot: boolean } = { needsRoot: true },
): Promise<HostChoice> {
  const wanted = Deno.env.get("PADDOCK_HOST") ?? "auto";
  if (wanted === "native" || wanted === "emulated") {
    return { kind: wanted, reason: `PADDOCK_HOST is "${wanted}"` };
  }
  if (wanted !== "auto") {
    throw new LocalError("usage", `PADDOCK_HOST must be native, emulated or auto: received "${wanted}"`);
  }
  const verdict = await cachedKvmVerdict(stateDir);
  if (!verdict.ok) return { kind: "emulated", reason: verdict.reason };
  if (options.needsRoot && Deno.uid() !== 0) {
    return { kind: "emulated", reason: "network namespaces need root, and this user is not" };
  }
  return { kind: "native", reason: verdict.reason };
}
