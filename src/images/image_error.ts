/**
 * The one error of the image builders: what went wrong, and what the user can do.
 *
 * @module
 */

/** Why a build step failed. */
export type ImageErrorCode =
  /** a downloaded or given file is not the one that was pinned */
  | "bad_checksum"
  /** no room in the cache folder */
  | "disk_full"
  /** a program of the host is not installed */
  | "tool_missing"
  /** a registry or mirror did not answer */
  | "unreachable"
  /** a file that was named does not exist */
  | "file_missing"
  /** the cache may not be changed here and does not hold what is needed */
  | "not_prepared"
  /** the caller gave up */
  | "aborted"
  /** a program ended with an error */
  | "command_failed";

/** A build step failed. */
export class ImageError extends Error {
  override readonly name = "ImageError";
  readonly code: ImageErrorCode;
  /** what the user can do about it, one sentence */
  readonly hint: string;

  /** end of what a failed program printed */
  readonly output: string;

  constructor(
    code: ImageErrorCode,
    message: string,
    hint: string,
    options: ErrorOptions & { output?: string } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.hint = hint;
    this.output = options.output ?? "";
  }
}

/** The error for a write that found no room in `path`. */
export function diskFull(path: string, cause?: unknown): ImageError {
  return new ImageError(
    "disk_full",
    `No space left on the file system of "${path}"`,
    "Free some space, or point PADDOCK_CACHE at a folder with at least 6 GB free",
    { cause },
  );
}

/** Turns any failure into an `ImageError`, recognising a full disk. */
export function asImageError(error: unknown, doing: string, path: string): ImageError {
  if (error instanceof ImageError) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (/no space left|ENOSPC|disk quota/i.test(text)) return diskFull(path, error);
  return new ImageError("command_failed", `Cannot ${doing}: ${text}`, "See the message above", {
    cause: error,
  });
}
