/**
 * What the command line sees of preparations: their progress and their failure.
 *
 * @module
 */

export { ImageError } from "../images/image_error.ts";
export type { ProgressEvent } from "../images/progress.ts";
