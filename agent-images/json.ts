/**
 * Reads JSON that agents print: no value in it is trusted to have the type that it should have.
 *
 * @module
 */

/** An object of JSON. */
export type Json = Readonly<Record<string, unknown>>;

/** The object that a line holds, or undefined: an agent, or what it started, may print plain text, too. */
export function parseObject(line: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Json : undefined;
  } catch {
    return undefined;
  }
}

/** The value if it is an object, else an empty one. */
export function object(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Json : {};
}

/** The value if it is a list, else an empty one. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The value if it is a string, else an empty one. */
export function string(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** The value if it is a number, else 0. */
export function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

/** The value as text for people. */
export function readable(value: unknown): string {
  return typeof value === "string"
    ? value
    : value === undefined || value === null
    ? ""
    : JSON.stringify(value);
}

/** The text of a message's content: a string, or parts of which some hold text. */
export function textOf(content: unknown): string {
  return typeof content === "string"
    ? content
    : list(content).map((part) => string(object(part).text)).join("");
}
