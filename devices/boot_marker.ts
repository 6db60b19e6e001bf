/**
 * The boot marker port: the contract with the guest's PID 1 (`guest-module/init/boot.c`), which writes how far it is. The
 * guest may write what it likes as often as it likes: the first of each marker counts, anything else is nothing.
 *
 * @module
 */

import type { BusDevice } from "../src/bus/bus.ts";

/** the I/O port */
export const BOOT_MARKER_PORT = 0x301;

/** What a guest reached: its PID 1 began, or is ready to serve. */
export type BootMarker = "init" | "ready";

const MARKERS: Readonly<Record<number, BootMarker>> = { 1: "init", 2: "ready" };

/** Tells when a guest's boot is where. */
export class BootMarkerPort implements BusDevice {
  readonly #onMarker: (marker: BootMarker) => void;
  readonly #seen = new Set<BootMarker>();

  /** `onMarker` is called at most once for each marker. */
  constructor(onMarker: (marker: BootMarker) => void) {
    this.#onMarker = onMarker;
  }

  read(): number {
    return 0;
  }

  write(_offset: number, size: number, value: number): void {
    const marker = size === 1 ? MARKERS[value] : undefined;
    if (marker === undefined || this.#seen.has(marker)) return;
    this.#seen.add(marker);
    this.#onMarker(marker);
  }
}
