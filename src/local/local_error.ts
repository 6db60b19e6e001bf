/**
 * What goes wrong on this machine before or around a task.
 *
 * @module
 */

/** A failure that the user can act on. */
export class LocalError extends Error {
  override readonly name = "LocalError";
  /** `usage`: what was asked for cannot be; `host`: this machine cannot do it */
  readonly code: "usage" | "host";

  constructor(code: "usage" | "host", message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
