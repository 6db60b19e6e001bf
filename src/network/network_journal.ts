/**
 * `network.jsonl`: an append-only journal in which each line holds the SHA-256 of the line before it, so that a line
 * that was changed, taken out or put in shows. The last line's hash stands in `result.json`: with it, a journal that
 * was cut short or written anew shows too.
 *
 *     {"seq":1,"at":"2026-11-22T19:00:00.000Z","prev":"000…","type":"decision","decision":{…}}
 *     {"seq":2,"at":"…","prev":"<SHA-256 of line 1 without its line feed, in hex>","type":"model","decision":{…}}
 *
 * @module
 */

import { createHash } from "node:crypto";
import type { GatewayDecision } from "./model_gateway.ts";
import type { NetworkDecision } from "./network_decision.ts";

/** `prev` of the first line. */
const NO_HASH = "0".repeat(64);

/** What a line tells, beside its place in the journal. */
export type JournalEntry =
  /** the policy that all decisions follow: the first line */
  | { readonly type: "policy"; readonly mode: string; readonly sha256: string }
  /** something was decided */
  | { readonly type: "decision"; readonly decision: NetworkDecision }
  /** the same was decided again and again: how often in all */
  | { readonly type: "repeated"; readonly decision: NetworkDecision; readonly count: number }
  /** the model gateway was used */
  | { readonly type: "model"; readonly decision: GatewayDecision }
  /** more happened than is written down */
  | { readonly type: "omitted"; readonly count: number };

/** Where a journal ends. */
export interface JournalEnd {
  readonly lineCount: number;
  /** SHA-256 of the last line in hex */
  readonly sha256: string;
}

/** A journal does not hold together. */
export class JournalError extends Error {
  override readonly name = "JournalError";
}

function hash(line: string): string {
  return createHash("sha256").update(line).digest("hex");
}

/** A journal that is being written. */
export class NetworkJournal implements Disposable {
  readonly #file: Deno.FsFile;
  #lineCount = 0;
  #last = NO_HASH;

  /** Makes the file at `path`, which must not exist. */
  constructor(path: string) {
    this.#file = Deno.openSync(path, { append: true, createNew: true, mode: 0o600 });
  }

  /** where it ends by now */
  get end(): JournalEnd {
    return { lineCount: this.#lineCount, sha256: this.#last };
  }

  /** Adds a line. */
  append(entry: JournalEntry): void {
    const place = { seq: this.#lineCount + 1, at: new Date().toISOString(), prev: this.#last };
    const line = JSON.stringify({ ...place, ...entry });
    const bytes = new TextEncoder().encode(`${line}\n`);
    for (let at = 0; at < bytes.length;) at += this.#file.writeSync(bytes.subarray(at));
    this.#lineCount += 1;
    this.#last = hash(line);
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/**
 * Checks a journal's text; compare what it gives with `result.json`.
 *
 * @throws {JournalError} that names the first line which does not follow from the one before it
 */
export function verifyNetworkJournal(text: string): JournalEnd {
  const lines = text.split("\n");
  if (lines.pop() !== "") throw new JournalError("Journal does not end with a whole line");
  let prev = NO_HASH;
  for (const [index, line] of lines.entries()) {
    let place: { seq?: unknown; prev?: unknown };
    try {
      place = JSON.parse(line) as typeof place;
    } catch (cause) {
      throw new JournalError(`Line ${index + 1} is not JSON`, { cause });
    }
    if (place.seq !== index + 1 || place.prev !== prev) {
      throw new JournalError(`Line ${index + 1} does not follow from the line before it`);
    }
    prev = hash(line);
  }
  return { lineCount: lines.length, sha256: prev };
}
