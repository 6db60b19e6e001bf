/**
 * How the service tells somebody outside, as the layers above see it.
 *
 * @module
 */

export { type OutsidePost, postOutside } from "../network/post_outside.ts";
