/**
 * Reads the head of a git bundle that comes out of a guest: lines of text, then a pack.
 *
 * @module
 */

import { byteString } from "./tar_reader.ts";

const SIGNATURE = "# v2 git bundle\n";
/** A bundle of one branch has one line for it and one for each place where it leaves the known history. */
const MAX_HEADER_BYTES = 64 * 1024;

/** The bundle is not one, or one of a kind that nobody asked for. */
export class BundleError extends Error {
  override readonly name = "BundleError";
}

/** What a bundle's head says. */
export interface BundleHeader {
  /** commit that HEAD was, in hex */
  readonly tip: string;
  /** where the pack begins, in bytes */
  readonly packOffset: number;
}

/** Reads the head of a bundle from its first bytes. @throws {BundleError} */
export function readBundleHeader(start: Uint8Array): BundleHeader {
  const text = byteString(start.subarray(0, MAX_HEADER_BYTES));
  if (!text.startsWith(SIGNATURE)) throw new BundleError("Cannot read the agent's commits: not a git bundle");
  const end = text.indexOf("\n\n");
  if (end === -1) throw new BundleError("Cannot read the agent's commits: the bundle's head does not end");
  let tip: string | undefined;
  for (const line of text.slice(SIGNATURE.length, end).split("\n")) {
    if (/^-[0-9a-f]{40}( |$)/.test(line)) continue; // a commit that we have to have: git finds out
    const found = /^([0-9a-f]{40}) HEAD$/.exec(line)?.[1];
    if (found === undefined || tip !== undefined) {
      throw new BundleError("Cannot read the agent's commits: the bundle holds more than HEAD");
    }
    tip = found;
  }
  if (tip === undefined) throw new BundleError("Cannot read the agent's commits: the bundle has no HEAD");
  return { tip, packOffset: end + 2 };
}
