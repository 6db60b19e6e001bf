/**
 * When a guest's boot was where, by its own markers.
 *
 * @module
 */

import type { BootMarker } from "../../devices/boot_marker.ts";
import type { VmTimings } from "../vmm/protocol.ts";

/** Collects the markers of one machine's vCPUs. */
export class BootClock {
  readonly #marked = new Map<BootMarker, number>();
  readonly #ready = Promise.withResolvers<void>();

  /** Notes a marker that a vCPU met at `wallMs` (since 1970); the first counts. */
  mark(marker: BootMarker, wallMs: number): void {
    if (this.#marked.has(marker)) return;
    // Each thread's own clock begins at another time.
    this.#marked.set(marker, wallMs - performance.timeOrigin);
    if (marker === "ready") this.#ready.resolve();
  }

  /** Settles once the guest is ready, with `timings` and what the guest added; never, if it does not say so. */
  async untilReady(timings: VmTimings): Promise<VmTimings> {
    await this.#ready.promise;
    const initMs = this.#marked.get("init");
    const readyMs = this.#marked.get("ready");
    return { ...timings, ...(initMs !== undefined && { initMs }), ...(readyMs !== undefined && { readyMs }) };
  }
}
