/**
 * The command line does not make sense: one line, exit code 2.
 *
 * @module
 */

/** Bad usage. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
