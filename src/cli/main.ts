/**
 * The command line: finds the command, runs it, turns what goes wrong into one line and an exit code.
 *
 * @module
 */

import { ImageError } from "../local/preparation.ts";
import { LocalError } from "../local/local_error.ts";
import { EXIT_CODES } from "./summary.ts";
import { UsageError } from "./usage_error.ts";

type Command = (args: readonly string[]) => Promise<number>;

/** Commands, each loaded only when it is used: help need not wait for the server's libraries. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => (await import("./commands/run.ts")).run,
  boot: async () => (await import("./commands/boot.ts")).boot,
  agents: async () => (await import("./commands/agents.ts")).agents,
  images: async () => (await import("./commands/images.ts")).images,
  host: async () => (await import("./commands/host.ts")).host,
  doctor: async () => (await import("./commands/doctor.ts")).doctor,
  help: async () => (await import("./commands/help.ts")).help,
};

function isParseError(error: unknown): error is TypeError {
  return error instanceof TypeError &&
    String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
}

/** The line about a failure, and its exit code. */
export function describeFailure(error: unknown): { readonly line: string; readonly code: number } {
  if (error instanceof UsageError) return { line: error.message, code: EXIT_CODES.usage };
  if (isParseError(error)) {
    return { line: (error.message.split(/\.\s/)[0] ?? "").trim(), code: EXIT_CODES.usage };
  }
  if (error instanceof LocalError && error.code === "usage") {
    return { line: error.message, code: EXIT_CODES.usage };
  }
  if (error instanceof ImageError) return { line: `${error.message}. ${error.hint}`, code: EXIT_CODES.host };
  return { line: error instanceof Error ? error.message : String(error), code: EXIT_CODES.host };
}

/** Runs a command line and gives its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const [name = "help", ...rest] = args;
  const wantsHelp = name === "--help" || name === "-h" || rest.includes("--help");
  const isExec = name === "host" && rest[0] === "exec";
  const load = Object.hasOwn(COMMANDS, wantsHelp && !isExec ? "help" : name)
    ? COMMANDS[wantsHelp && !isExec ? "help" : name]
    : undefined;
  try {
    if (load === undefined) throw new UsageError(`There is no command "${name}": see sandbox help`);
    return await (await load())(rest);
  } catch (error) {
    const { line, code } = describeFailure(error);
    console.error(`sandbox: ${line}`);
    if (Deno.env.get("PADDOCK_DEBUG") === "1") console.error(error);
    return code;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
