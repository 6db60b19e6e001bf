/**
 * The device status field as a table of legal steps (virtio 1.2 §2.1, §3.1.1).
 *
 * @module
 */

import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER as DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED as FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK,
} from "./abi.ts";

/** What the driver may write next, besides 0 (reset) and FAILED, which it may at any time. */
const NEXT_STATUS: Readonly<Record<number, number>> = {
  [0]: ACKNOWLEDGE,
  [ACKNOWLEDGE]: ACKNOWLEDGE | DRIVER,
  [ACKNOWLEDGE | DRIVER]: ACKNOWLEDGE | DRIVER | FEATURES_OK,
  [ACKNOWLEDGE | DRIVER | FEATURES_OK]: ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,
};

/** What a write of the status register means. */
export type StatusStep = "reset" | "acknowledge" | "driver" | "features_ok" | "driver_ok" | "failed" | "none";

const STEP_OF: Readonly<Record<number, StatusStep>> = {
  [ACKNOWLEDGE]: "acknowledge",
  [ACKNOWLEDGE | DRIVER]: "driver",
  [ACKNOWLEDGE | DRIVER | FEATURES_OK]: "features_ok",
  [ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK]: "driver_ok",
};

/**
 * Judges a write of `written` when the driver's bits are `current`. A step that the table does not have is `none`:
 * to be ignored.
 */
export function statusStep(current: number, written: number): StatusStep {
  if (written === 0) return "reset";
  if ((written & FAILED) !== 0) return "failed";
  if (NEXT_STATUS[current] !== written) return "none";
  return STEP_OF[written] ?? "none";
}
