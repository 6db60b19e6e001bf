/**
 * The request to power off, in every way that a guest may listen to: the power module's interrupt and ACPI's button.
 *
 * @module
 */

import { ACPI_POWER_WORDS, AcpiPower } from "../../devices/acpi_power.ts";
import type { IrqLine } from "../bus/irq_line.ts";
import { ACPI_POWER_WORD } from "./worker_protocol.ts";

/**
 * ACPI's button is pressed again so often: a press that comes before somebody listens to it is lost, and a guest that
 * boots takes a while until somebody does.
 */
const PRESS_AGAIN_MS = 2000;

/** A button that can be held. */
export class PowerButton {
  readonly #moduleIrq: IrqLine;
  readonly #acpi: AcpiPower;
  #again: ReturnType<typeof setInterval> | undefined;

  /** `shared` are the threads' shared words; `moduleIrq` is the interrupt of `devices/power.ts`. */
  constructor(shared: SharedArrayBuffer, lines: { readonly moduleIrq: IrqLine; readonly sci: IrqLine }) {
    this.#moduleIrq = lines.moduleIrq;
    const state = new Int32Array(shared, 4 * ACPI_POWER_WORD, ACPI_POWER_WORDS);
    this.#acpi = new AcpiPower(state, lines.sci, () => {});
  }

  /**
   * Asks until {@linkcode release}. The module is asked once: asked again while the guest shuts down, it would find
   * no program for it any more and switch off at once.
   */
  hold(): void {
    if (this.#again !== undefined) return;
    this.#moduleIrq.trigger();
    this.#acpi.press();
    this.#again = setInterval(() => this.#acpi.press(), PRESS_AGAIN_MS);
  }

  /** Asks no more. */
  release(): void {
    clearInterval(this.#again);
    this.#again = undefined;
  }
}
