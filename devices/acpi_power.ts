/**
 * ACPI's fixed hardware as far as a virtual machine has it: the power button and the way into soft-off (ACPI 6.5
 * §4.8.3, PM1 event and control registers). The host presses the button; an operating system that has it enabled gets
 * a system control interrupt and shuts down; the last thing it does is to write the sleep type of S5.
 *
 * The state is two shared words, as any vCPU may access the registers and the host presses from another thread.
 *
 * @module
 */

import type { BusDevice } from "../src/bus/bus.ts";
import type { IrqLine } from "../src/bus/irq_line.ts";

/** I/O ports of the PM1 event registers (status, enable), two bytes each */
export const PM1_EVENT_PORT = 0x600;
export const PM1_EVENT_BYTES = 4;
/** I/O port of the PM1 control register */
export const PM1_CONTROL_PORT = PM1_EVENT_PORT + PM1_EVENT_BYTES;
export const PM1_CONTROL_BYTES = 2;
/** system control interrupt */
export const SCI_IRQ = 9;
/** sleep type that the `\_S5` object names */
export const SLEEP_TYPE_S5 = 5;

/** words of the state */
const STATUS = 0;
const ENABLE = 1;
export const ACPI_POWER_WORDS = 2;

/** power button: pressed, in the status register; interrupts wanted, in the enable register */
const POWER_BUTTON = 1 << 8;
/** what a guest can enable: timer, global lock, power button, sleep button, clock; only the button ever happens */
const ENABLE_BITS = 0b0111_0010_0001;

// Registers by byte: the architecture leaves the width of an access to the operating system
const STATUS_BYTE = 0;
const ENABLE_BYTE = 2;
const CONTROL_BYTE = 4;
/** ACPI mode: there is no other here (SMI_CMD is 0) */
const CONTROL_SCI_ENABLED = 1;
/** in the control register's upper byte */
const SLEEP_TYPE_SHIFT = 2;
const SLEEP_TYPE_MASK = 7;
const SLEEP_ENABLE = 1 << 5;

/** The PM1 registers, at {@linkcode PM1_EVENT_PORT}. */
export class AcpiPower implements BusDevice {
  readonly #state: Int32Array<SharedArrayBuffer>;
  readonly #sci: IrqLine;
  readonly #powerOff: () => void;

  /** `state` has {@linkcode ACPI_POWER_WORDS} words; `powerOff` is called when the guest entered S5. */
  constructor(state: Int32Array<SharedArrayBuffer>, sci: IrqLine, powerOff: () => void) {
    this.#state = state;
    this.#sci = sci;
    this.#powerOff = powerOff;
  }

  /** Presses the button. */
  press(): void {
    Atomics.or(this.#state, STATUS, POWER_BUTTON);
    this.#interrupt();
  }

  read(offset: number, size: number): number {
    let value = 0;
    for (let index = 0; index < size; index++) value += this.#readByte(offset + index) * 2 ** (8 * index);
    return value;
  }

  write(offset: number, size: number, value: number): void {
    for (let index = 0; index < size; index++) {
      this.#writeByte(offset + index, Math.floor(value / 2 ** (8 * index)) & 0xff);
    }
    this.#interrupt();
  }

  #readByte(offset: number): number {
    const shift = 8 * (offset & 1);
    switch (offset & ~1) {
      case STATUS_BYTE:
        return (Atomics.load(this.#state, STATUS) >>> shift) & 0xff;
      case ENABLE_BYTE:
        return (Atomics.load(this.#state, ENABLE) >>> shift) & 0xff;
      default:
        return offset === CONTROL_BYTE ? CONTROL_SCI_ENABLED : 0;
    }
  }

  #writeByte(offset: number, byte: number): void {
    const shift = 8 * (offset & 1);
    switch (offset & ~1) {
      case STATUS_BYTE:
        // Ones clear: writing back what was read acknowledges exactly that.
        Atomics.and(this.#state, STATUS, ~(byte << shift));
        return;
      case ENABLE_BYTE:
        Atomics.and(this.#state, ENABLE, ~(0xff << shift));
        Atomics.or(this.#state, ENABLE, (byte << shift) & ENABLE_BITS);
        return;
      case CONTROL_BYTE: {
        if (shift === 0) return;
        const sleepType = (byte >>> SLEEP_TYPE_SHIFT) & SLEEP_TYPE_MASK;
        if ((byte & SLEEP_ENABLE) !== 0 && sleepType === SLEEP_TYPE_S5) this.#powerOff();
      }
    }
  }

  /** The line is edge-triggered, so it is raised again whenever something that is enabled still waits. */
  #interrupt(): void {
    const waiting = Atomics.load(this.#state, STATUS) & Atomics.load(this.#state, ENABLE);
    if (waiting !== 0) this.#sci.trigger();
  }
}
