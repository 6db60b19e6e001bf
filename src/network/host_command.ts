/**
 * Runs a short-lived tool of the host (`ip`, `nft`, `git`, …) to its end, with an environment that holds
 * nothing of the user's: no keys, no proxies, no locale that would change the output.
 *
 * @module
 */

/** Where tools are looked for: administration tools are not on every user's PATH. */
const TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Longest part of a tool's stderr that is kept in an error message, in characters. */
const MAX_DETAIL_LENGTH = 400;

/** A host tool is missing or failed. */
export class HostCommandError extends Error {
  override readonly name = "HostCommandError";
  /** tool that was run */
  readonly tool: string;
  /** its exit code (undefined: it could not be started) */
  readonly exitCode: number | undefined;

  constructor(message: string, facts: { tool: string; exitCode?: number; cause?: unknown }) {
    super(message, { cause: facts.cause });
    this.tool = facts.tool;
    this.exitCode = facts.exitCode;
  }
}

/** Options of {@linkcode runHostCommand}. */
export interface HostCommandOptions {
  /** text for its stdin (default none) */
  readonly stdin?: string;
  /** variables beside PATH */
  readonly env?: Readonly<Record<string, string>>;
  /** exit codes that are not a failure (default: only 0) */
  readonly okCodes?: readonly number[];
}

/** The environment of host tools. */
export function toolEnv(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH: TOOL_PATH, LC_ALL: "C", ...extra };
}

/** Starts a tool; a missing one becomes an error that names it. */
export function spawnHostCommand(argv: readonly string[], options: Deno.CommandOptions): Deno.ChildProcess {
  const [tool = "", ...args] = argv;
  try {
    return new Deno.Command(tool, { ...options, args, clearEnv: true }).spawn();
  } catch (cause) {
    throw new HostCommandError(`Cannot start "${tool}": is it installed?`, { tool, cause });
  }
}

/**
 * Runs a tool and gives what it printed.
 *
 * @throws {HostCommandError} when it cannot be started or fails
 */
export async function runHostCommand(
  argv: readonly string[],
  options: HostCommandOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const child = spawnHostCommand(argv, {
    env: toolEnv(options.env),
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  });
  const [output] = await Promise.all([child.output(), feed(child, options.stdin)]);
  if (!(options.okCodes ?? [0]).includes(output.code)) {
    const detail = new TextDecoder().decode(output.stderr).trim().slice(0, MAX_DETAIL_LENGTH);
    const tool = argv.slice(0, 3).join(" ");
    throw new HostCommandError(`Cannot run "${tool}": exit code ${output.code}: ${detail}`, {
      tool: argv[0] ?? "",
      exitCode: output.code,
    });
  }
  return output.stdout;
}

async function feed(child: Deno.ChildProcess, text: string | undefined): Promise<void> {
  if (text === undefined) return;
  const writer = child.stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch {
    // A tool may end without reading its input; its exit code says whether that was a failure.
  }
}
