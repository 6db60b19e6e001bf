/**
 * How a VM ended.
 *
 * @module
 */

import type { VmmEvent } from "../vmm/protocol.ts";

/** How a VM ended: by its own event, given up by its session, or by the process ending without a word. */
export type VmEnd =
  | Extract<VmmEvent, { type: "stopped" | "failed" }>
  | { readonly type: "abandoned"; readonly message: string }
  | { readonly type: "crashed"; readonly exitCode: number; readonly message: string };

const EXIT_CAUSES = new Set(["mmio", "hlt", "irq_window", "shutdown", "system_event"]);

/** How often a guest left for its monitor, by cause, all ports as one; nothing for a VM that ended without a word. */
export function exitsByCause(end: VmEnd): ReadonlyMap<string, number> {
  const exits = new Map<string, number>();
  for (const [name, count] of end.type === "stopped" ? Object.entries(end.exits) : []) {
    // A monitor that its guest took over may send any name
    const cause = EXIT_CAUSES.has(name) ? name : /\bports?\b/.test(name) ? "port" : "other";
    exits.set(cause, (exits.get(cause) ?? 0) + count);
  }
  return exits;
}

/** The sentence that says how a VM ended. */
export function describeVmEnd(end: VmEnd): string {
  switch (end.type) {
    case "stopped": {
      const detail = end.detail === undefined ? "" : ` (${end.detail})`;
      const sentences = {
        poweroff: "guest powered off",
        reset: "guest rebooted or its kernel panicked",
        killed: "guest was killed",
        internal_error: "KVM could not run the guest further",
      } as const;
      return sentences[end.reason] + detail;
    }
    case "failed":
    case "abandoned":
      return end.message;
    case "crashed":
      return `VMM process ended unexpectedly, exit code ${end.exitCode}${
        end.message === "" ? "" : `: ${end.message}`
      }`;
  }
}
