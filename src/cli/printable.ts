/**
 * Makes text of a guest safe to print: what an agent says must not move the cursor, set the title or type
 * into the user's terminal.
 *
 * @module
 */

/** The text without escape sequences and control characters, other than line feeds and tabs. */
export function printable(text: string): string {
  // deno-lint-ignore no-control-regex
  const plain = text.replace(/\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?/g, "");
  // deno-lint-ignore no-control-regex
  return plain.replace(/\r\n?/g, "\n").replace(
    /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g,
    "",
  );
}
