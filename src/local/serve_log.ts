/**
 * What `sandbox serve` says while it runs: one line for each request and each event, as JSON for programs or as text for
 * people. On stderr, where logs of services go.
 *
 * @module
 */

/** How important a line is. */
export type LogLevel = "info" | "warn" | "error";
/** How lines look. */
export type LogFormat = "text" | "json";

/** Writes lines. */
export type ServeLog = (level: LogLevel, message: string, facts?: Readonly<Record<string, unknown>>) => void;

// deno-lint-ignore no-control-regex
const CONTROLS = /[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g;

function asText(value: unknown): string {
  return (typeof value === "string" ? value : JSON.stringify(value)).replace(CONTROLS, "?");
}

/** One line, without its end. */
export function formatLine(
  format: LogFormat,
  line: { readonly time: Date; readonly level: LogLevel; readonly message: string },
  facts: Readonly<Record<string, unknown>> = {},
): string {
  const { time, level, message } = line;
  if (format === "json") return JSON.stringify({ time: time.toISOString(), level, message, ...facts });
  const known = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined);
  const words = known.map(([name, value]) => `${name}=${asText(value)}`);
  const mark = level === "info" ? "" : `${level}: `;
  return [time.toISOString().slice(11, 19), mark + asText(message), ...words].join(" ");
}

/** A log on stderr. */
export function openLog(format: LogFormat): ServeLog {
  const encoder = new TextEncoder();
  return (level, message, facts) => {
    const line = formatLine(format, { time: new Date(), level, message }, facts);
    try {
      Deno.stderr.writeSync(encoder.encode(`${line}\n`));
    } catch {
      // Nobody reads it any more: the service goes on
    }
  };
}

/** Until it is disposed of, what anything prints on stderr becomes a line of the log; an error has its stack. */
export function captureErrors(log: ServeLog): Disposable {
  const before = console.error;
  console.error = (...words: readonly unknown[]): void => {
    const [first] = words;
    if (first instanceof Error) log("error", first.message, { stack: first.stack, cause: causeOf(first) });
    else log("error", words.map(String).join(" "));
  };
  return { [Symbol.dispose]: () => void (console.error = before) };
}

function causeOf({ cause }: Error): string | undefined {
  return cause === undefined ? undefined : cause instanceof Error ? cause.stack : String(cause);
}
