/**
 * The phases of a boot, from the times at which each was over.
 *
 * @module
 */

import type { VmTimings } from "../vmm/protocol.ts";

/** Duration of each phase of a boot in `ms`; the last two only of a guest that says how far it is. */
export interface BootPhases {
  readonly processStart: number;
  readonly kvmSetup: number;
  readonly kernelLoad: number;
  readonly firstInstruction: number;
  readonly kernelToInit?: number;
  readonly initToReady?: number;
}

/** Durations between the times. */
export function bootPhases(timings: VmTimings): BootPhases {
  const { processStartMs, kvmReadyMs, kernelLoadedMs, firstInstructionMs, initMs, readyMs } = timings;
  // A guest of a few instructions can be done before the VMM's main thread hears that it runs.
  const round = (ms: number): number => Math.max(0, Math.round(ms * 10) / 10);
  return {
    processStart: round(processStartMs),
    kvmSetup: round(kvmReadyMs - processStartMs),
    kernelLoad: round(kernelLoadedMs - kvmReadyMs),
    firstInstruction: round(firstInstructionMs - kernelLoadedMs),
    ...(initMs !== undefined && { kernelToInit: round(initMs - firstInstructionMs) }),
    ...(initMs !== undefined && readyMs !== undefined && { initToReady: round(readyMs - initMs) }),
  };
}

const NAMES: Readonly<Record<keyof BootPhases, string>> = {
  processStart: "process start",
  kvmSetup: "KVM set-up",
  kernelLoad: "kernel load",
  firstInstruction: "first instruction",
  kernelToInit: "kernel to init",
  initToReady: "init to ready",
};

/** One line for people. */
export function describeBootPhases(phases: BootPhases): string {
  const parts = Object.entries(phases).map(([name, ms]) => `${NAMES[name as keyof BootPhases]} ${ms} ms`);
  return `Boot: ${parts.join(", ")}`;
}
