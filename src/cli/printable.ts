/**
 * Makes text of a guest safe to print: what an agent says must not move the cursor, set the title or type
 * into the user's terminal.
 *
 * @module
 */

/** Sequences that a terminal acts on: CSI, and OSC with its text. */
// deno-lint-ignore no-control-regex
const ESCAPES = /\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?/g;

/** Control characters other than line feed and tab, and those that change the direction of text. */
// deno-lint-ignore no-control-regex
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/** The text without escape sequences and control characters, other than line feeds and tabs. */
export function printable(text: string): string {
  return text.replace(ESCAPES, "").replace(/\r\n?/g, "\n").replace(CONTROLS, "");
}
