/**
 * What the protocols of model providers have in common, as a scripted model sees it.
 *
 * @module
 */

import type { Script } from "./script.ts";

/** What the script needs to know of a request. */
export interface Turn {
  /** tool results since the last message of the user */
  readonly toolResultCount: number;
  /** the client wants one JSON answer and no stream */
  readonly isPlain: boolean;
  /** The model's answer. */
  answer(script: Script): Answer;
}

/** An answer as it goes over the wire. */
export interface Answer {
  readonly events: readonly Uint8Array<ArrayBuffer>[];
  /** the event of a failure inside the stream */
  readonly failure: Uint8Array<ArrayBuffer>;
  /** the same for a client that wants no stream */
  readonly plain: unknown;
}

/** One provider's protocol. */
export interface Dialect {
  /** end of the path of its requests */
  readonly pathEnd: string;
  /** Reads the decoded JSON body of a request. */
  read(body: unknown): Turn;
  /** Body of an error. */
  error(status: number, message: string): unknown;
}

/** An object of JSON. */
export type Json = Record<string, unknown>;

/** Whether a value is an object. */
export function isRecord(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The objects of a list. */
export function records(value: unknown): Json[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

/** The body as an object. */
export function requireRecord(body: unknown): Json {
  if (!isRecord(body)) throw new TypeError("Cannot read request: body is not a JSON object");
  return body;
}

let lastId = 0;

/** An id that no other answer has. */
export function makeId(prefix: string): string {
  lastId += 1;
  return `${prefix}_${lastId.toString().padStart(8, "0")}`;
}

/** A text in the pieces in which it is streamed. */
export function pieces(text: string): string[] {
  const parts: string[] = [];
  for (let at = 0; at < text.length; at += 16) parts.push(text.slice(at, at + 16));
  return parts;
}

/** Names of shell tools, with the argument that takes the command, and what else they need. */
const SHELL_TOOLS: ReadonlyMap<string, (command: string) => Json> = new Map([
  ["exec_command", (cmd: string): Json => ({ cmd })],
  ["exec", (command: string): Json => ({ command })],
  ["bash", (command: string): Json => ({ command, description: "Runs the command" })],
  ["Bash", (command: string): Json => ({ command, description: "Runs the command" })],
  ["run_shell_command", (command: string): Json => ({ command, description: "Runs the command" })],
]);

/** A shell tool among the names of those on offer, with how its argument is made. */
export function findShellTool(
  names: readonly unknown[],
): { name: string; input: (command: string) => Json } | undefined {
  for (const name of names) {
    const input = typeof name === "string" ? SHELL_TOOLS.get(name) : undefined;
    if (input !== undefined) return { name: String(name), input };
  }
  return undefined;
}

/** A server-sent event; the data names its type, too. */
export function encodeEvent(event: Json & { readonly type: string }): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
}
