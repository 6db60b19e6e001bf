/**
 * All fuzz targets.
 *
 * @module
 */

import { kernelTarget, qcow2Target } from "./file_targets.ts";
import type { FuzzTarget } from "./fuzzer.ts";
import { networkTargets } from "./network_targets.ts";
import { portTarget } from "./port_target.ts";
import { virtioTargets } from "./virtio_targets.ts";

/** Makes the targets; each has to be closed. */
export function fuzzTargets(): FuzzTarget[] {
  return [...virtioTargets(), portTarget(), qcow2Target(), kernelTarget(), ...networkTargets()];
}
