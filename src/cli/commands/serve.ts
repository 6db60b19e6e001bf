/**
 * `sandbox serve`: the service.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { serve as serveTasks, type ServeOptions } from "../../local/serve.ts";
import { captureErrors, type LogFormat, openLog } from "../../local/serve_log.ts";
import { defaultStateDir } from "../../local/tokens.ts";
import { untilInterrupted } from "../interrupt.ts";
import { parseCount, parseDurationMs, parseLifetimeMs, parseSizeMib } from "../quantities.ts";
import { UsageError } from "../usage_error.ts";

const DEFAULT_LISTEN = "127.0.0.1:8080";
const DEFAULT_MAX_VMS = "8";

const OPTIONS = {
  listen: { type: "string", default: DEFAULT_LISTEN },
  "max-vms": { type: "string", default: DEFAULT_MAX_VMS },
  "max-memory": { type: "string" },
  state: { type: "string" },
  retain: { type: "string" },
  drain: { type: "string" },
  "tls-cert": { type: "string" },
  "tls-key": { type: "string" },
  "behind-proxy": { type: "boolean", default: false },
  host: { type: "string", multiple: true },
  "log-format": { type: "string" },
} as const;

/** `ADDRESS:PORT`, `[ADDRESS]:PORT`, or a port of loopback. */
export function parseListen(text: string): { readonly hostname: string; readonly port: number } {
  const [, bracketed, plain, digits = ""] =
    /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):)?([0-9]{1,5})$/.exec(text) ??
      [];
  const port = Number(digits);
  if (digits !== "" && port < 65536) return { hostname: bracketed ?? plain ?? "127.0.0.1", port };
  throw new UsageError(`--listen must be ADDRESS:PORT, such as ${DEFAULT_LISTEN}: received "${text}"`);
}

function parseName(text: string): string {
  if (/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text)) return text;
  throw new UsageError(
    `--host must be a name without a port, such as paddock.example.com: received "${text}"`,
  );
}

function parseFormat(text: string | undefined): LogFormat {
  if (text === undefined) return Deno.stderr.isTerminal() ? "text" : "json";
  if (text === "text" || text === "json") return text;
  throw new UsageError(`--log-format must be text or json: received "${text}"`);
}

/** What a command line asks for. */
export type ServeArguments =
  & Omit<ServeOptions, "log" | "onProgress" | "signal" | "onListen">
  & { readonly logFormat: LogFormat };

/** Reads the command line. @throws {UsageError} */
export function parseServeArguments(args: readonly string[]): ServeArguments {
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  const { "tls-cert": certFile, "tls-key": keyFile } = values;
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new UsageError("--tls-cert and --tls-key belong together: give both");
  }
  return {
    ...parseListen(values.listen),
    maxVms: parseCount("--max-vms", values["max-vms"]),
    maxMemoryMib: values["max-memory"] === undefined
      ? undefined
      : parseSizeMib("--max-memory", values["max-memory"]),
    stateDir: values.state ?? defaultStateDir(),
    retainMs: values.retain === undefined || values.retain === "never"
      ? undefined
      : parseLifetimeMs("--retain", values.retain),
    drainMs: values.drain === undefined ? undefined : parseDurationMs("--drain", values.drain),
    tls: certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile },
    isBehindProxy: values["behind-proxy"],
    names: (values.host ?? []).map(parseName),
    logFormat: parseFormat(values["log-format"]),
  };
}

/** Runs the command and gives its exit code. */
export async function serve(args: readonly string[]): Promise<number> {
  const { logFormat, ...options } = parseServeArguments(args);
  const log = openLog(logFormat);
  using _ = captureErrors(log);
  using interruption = untilInterrupted(() => {});
  await serveTasks({
    ...options,
    log,
    signal: interruption.signal,
    onProgress: (event) => {
      if ("message" in event) log("info", event.message);
    },
    onListen: ({ url, tokenFile }) => {
      log("info", "listening", { url, tokenFile });
      if (logFormat === "text" && tokenFile !== undefined) {
        log("info", `  curl -H "Authorization: Bearer $(cat ${tokenFile})" ${url}/v1/tasks`);
      }
    },
  });
  return 0;
}
