/**
 * What can go wrong with a session as a whole, as a code that the API and the CLI act on.
 *
 * @module
 */

/** Code of a {@linkcode SessionError}. */
export type SessionErrorCode =
  /** the request does not fit this host */
  | "config"
  /** the guest ended before it was up */
  | "boot_failed"
  /** the guest was not up in time */
  | "boot_timeout"
  /** the VM ended while it was needed */
  | "vm_ended"
  /** no such task, upload or result */
  | "not_found"
  /** the task is in a state that does not allow this */
  | "conflict"
  /** too many tasks at once */
  | "limit_reached"
  /** something is larger than allowed */
  | "too_large"
  /** the key of a request was used for another one */
  | "idempotency_mismatch"
  /** a server in a guest gave no proper answer */
  | "bad_gateway";

/** A session-level failure. */
export class SessionError extends Error {
  override readonly name = "SessionError";
  readonly code: SessionErrorCode;

  constructor(code: SessionErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
