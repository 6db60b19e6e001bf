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
