/**
 * The command line: finds the command, runs it, turns what goes wrong into one line and an exit code.
 *
 * @module
 */

import { ImageError } from "../local/preparation.ts";
import { LocalError } from "../local/local_error.ts";
import { chooseServer } from "../local/remote_server.ts";
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
  start: async () => (await import("./commands/start.ts")).start,
  ls: async () => (await import("./commands/sessions.ts")).ls,
  shell: async () => (await import("./commands/sessions.ts")).shell,
  exec: async () => (await import("./commands/sessions.ts")).exec,
  cp: async () => (await import("./commands/sessions.ts")).cp,
  logs: async () => (await import("./commands/sessions.ts")).logs,
  pause: async () => (await import("./commands/sessions.ts")).pause,
  resume: async () => (await import("./commands/sessions.ts")).resume,
  stop: async () => (await import("./commands/sessions.ts")).stop,
  rm: async () => (await import("./commands/sessions.ts")).rm,
  publish: async () => (await import("./commands/sessions.ts")).publish,
  mcp: async () => (await import("./commands/mcp.ts")).mcp,
  task: async () => (await import("./commands/task.ts")).task,
  serve: async () => (await import("./commands/serve.ts")).serve,
  token: async () => (await import("./commands/token.ts")).token,
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

/** Takes out what every command understands: `--server URL` and `--token TOKEN`. */
function takeServerOptions(own: readonly string[], after: readonly string[]): string[] {
  const left: string[] = [];
  const found: { url?: string; token?: string } = {};
  for (let at = 0; at < own.length; at++) {
    const word = own[at] ?? "";
    const match = /^--(server|token)(?:=(.*))?$/.exec(word);
    if (match === null) {
      left.push(word);
      continue;
    }
    const value = match[2] ?? own[at += 1];
    if (value === undefined || value === "") throw new UsageError(`--${match[1]} needs a value`);
    found[match[1] === "server" ? "url" : "token"] = value;
  }
  if (found.token !== undefined && found.url === undefined && (Deno.env.get("PADDOCK_SERVER") ?? "") === "") {
    throw new UsageError("--token needs --server");
  }
  chooseServer(found);
  return [...left, ...after];
}

/** Runs a command line and gives its exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const [name = "help", ...given] = args;
  // What stands behind "--" is a command of somebody else's
  const own = given.includes("--") ? given.slice(0, given.indexOf("--")) : given;
  const wantsHelp = name === "--help" || name === "-h" || own.includes("--help");
  const wanted = wantsHelp ? "help" : name;
  const load = Object.hasOwn(COMMANDS, wanted) ? COMMANDS[wanted] : undefined;
  try {
    if (load === undefined) throw new UsageError(`There is no command "${name}": see sandbox help`);
    return await (await load())(takeServerOptions(own, given.slice(own.length)));
  } catch (error) {
    const { line, code } = describeFailure(error);
    console.error(`sandbox: ${line}`);
    if (Deno.env.get("PADDOCK_DEBUG") === "1") console.error(error);
    return code;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
