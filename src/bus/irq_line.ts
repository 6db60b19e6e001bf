/**
 * An interrupt as a value: what a device needs to know of it is how to raise it.
 *
 * @module
 */

/** Raises an edge-triggered interrupt once. */
export interface IrqLine {
  trigger(): void;
}
