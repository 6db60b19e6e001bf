/**
 * What the scripted model does: one shell command per turn, then a final text. A run can bring its own script
 * and its own fault in the URL, so that one server serves many tests at once:
 *
 *     http://127.0.0.1:PORT/fault/second-500/script/BASE64URL-OF-JSON/v1/responses
 *
 * @module
 */

/** A whole run of the model. */
export interface Script {
  /** shell commands, one per turn */
  readonly commands: readonly string[];
  /** what the model says once all commands have run */
  readonly finalText: string;
}

/** What goes wrong, and from which turn on. */
export interface Fault {
  readonly kind: "status" | "cut" | "silent" | "failed" | "slow" | "reset";
  /** HTTP status when `kind` is `status` */
  readonly status: number;
  /** first turn (0-based count of tool results) that has the fault */
  readonly fromTurn: number;
}

/** Parts of a request's path. */
export interface RoutedPath {
  readonly script: Script | undefined;
  readonly fault: Fault | undefined;
  /** what is left: the path a provider would see */
  readonly path: string;
}

/** The script of `--demo`, and of a request that names none. */
export const DEFAULT_SCRIPT: Script = {
  commands: ['printf "Hello from a microVM: %s\\n" "$(uname -sr)" > hello.txt && cat hello.txt'],
  finalText: "Done: I wrote hello.txt with a greeting from inside the microVM.",
};

function parseFault(word: string): Fault {
  const fromTurn = word.startsWith("second-") ? 1 : 0;
  const name = fromTurn === 1 ? word.slice("second-".length) : word;
  if (/^[1-5][0-9][0-9]$/.test(name)) return { kind: "status", status: Number(name), fromTurn };
  if (name === "cut" || name === "silent" || name === "failed" || name === "slow" || name === "reset") {
    return { kind: name, status: 0, fromTurn };
  }
  throw new RangeError(`Cannot use fault "${word}": unknown name`);
}

function parseScript(encoded: string): Script {
  const bytes = Uint8Array.fromBase64(encoded, { alphabet: "base64url" });
  const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
  if (typeof value !== "object" || value === null) throw new TypeError("Cannot use script: not an object");
  const { commands, finalText } = value as { commands?: unknown; finalText?: unknown };
  if (!Array.isArray(commands) || !commands.every((command) => typeof command === "string")) {
    throw new TypeError("Cannot use script: commands must be strings");
  }
  return { commands, finalText: typeof finalText === "string" ? finalText : "Done." };
}

/** Splits `/fault/X/script/Y/v1/responses` into its parts. */
export function routePath(pathname: string): RoutedPath {
  let script: Script | undefined;
  let fault: Fault | undefined;
  let rest = pathname;
  for (;;) {
    const match = /^\/(fault|script)\/([^/]+)(\/.*)$/.exec(rest);
    if (match === null) return { script, fault, path: rest };
    const [, kind, value = "", tail = "/"] = match;
    if (kind === "fault") fault = parseFault(value);
    else script = parseScript(value);
    rest = tail;
  }
}

/** The URL prefix that carries a script. */
export function scriptPrefix(script: Script): string {
  const bytes = new TextEncoder().encode(JSON.stringify(script));
  return `/script/${bytes.toBase64({ alphabet: "base64url", omitPadding: true })}`;
}
