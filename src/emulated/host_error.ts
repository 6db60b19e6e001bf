/**
 * The emulated host could not be started, reached or used.
 *
 * @module
 */

/** Why. */
export type HostErrorCode =
  /** its processes ended, or it did not answer in time */
  | "start_failed"
  /** another one runs, with tasks in it */
  | "busy";

/** A failure of the emulated host itself. */
export class HostError extends Error {
  override readonly name = "HostError";
  readonly code: HostErrorCode;

  constructor(code: HostErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
