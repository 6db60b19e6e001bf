/**
 * Colours, where the terminal wants them.
 *
 * @module
 */

/** Makes text bold, dim, red or green; or leaves it as it is. */
export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
}

function wrap(code: number): (text: string) => string {
  return (text) => `\x1b[${code}m${text}\x1b[0m`;
}

const PLAIN: Style = { bold: String, dim: String, red: String, green: String };
const COLOURED: Style = { bold: wrap(1), dim: wrap(2), red: wrap(31), green: wrap(32) };

/** The style for an output: plain unless it is a terminal, and NO_COLOR is not set. */
export function styleFor(output: { isTerminal(): boolean }): Style {
  const isPlain = (Deno.env.get("NO_COLOR") ?? "") !== "" || Deno.env.get("TERM") === "dumb";
  return output.isTerminal() && !isPlain ? COLOURED : PLAIN;
}
