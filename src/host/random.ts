/**
 * The host's random numbers.
 *
 * @module
 */

/** Most that `getRandomValues` gives at once (Web Crypto, §10.1.1). */
const QUOTA_BYTES = 65_536;

/** The kernel's generator, as a backend of the entropy device. */
export class RandomSource {
  /** Fills `bytes`. */
  fill(bytes: Uint8Array<ArrayBuffer>): void {
    for (let at = 0; at < bytes.byteLength; at += QUOTA_BYTES) {
      crypto.getRandomValues(bytes.subarray(at, at + QUOTA_BYTES));
    }
  }
}
