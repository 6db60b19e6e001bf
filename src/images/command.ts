/**
 * Runs one program of the host and turns its failures into errors that say what to do.
 *
 * @module
 */
import { diskFull, ImageError } from "./image_error.ts";
import { packageOf } from "./host_tools.ts";

/** How a program is run. */
export interface CommandOptions {
  readonly cwd?: string;
  /** complete environment (default: this process's) */
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** called with each line of stdout and stderr as it comes */
  readonly onLine?: (line: string) => void;
}

/** Longest tail of output that is kept for an error message, in characters. */
const MAX_TAIL = 4000;

/** Runs `argv` to its end and returns its stdout. @throws {ImageError} when it cannot run or fails */
export async function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const [program = "", ...args] = argv;
  const child = spawn(program, args, options);
  const lines = { out: "", tail: "" };
  const [status] = await Promise.all([
    child.status,
    forEachLine(child.stdout, (line) => {
      lines.out += line + "\n";
      lines.tail = (lines.tail + line + "\n").slice(-MAX_TAIL);
      options.onLine?.(line);
    }),
    forEachLine(child.stderr, (line) => {
      lines.tail = (lines.tail + line + "\n").slice(-MAX_TAIL);
      options.onLine?.(line);
    }),
  ]);
  if (options.signal?.aborted) throw new ImageError("aborted", `Stopped ${program}`, "Run the command again");
  if (!status.success) throw failure(argv, status, lines.tail);
  return lines.out;
}

function spawn(program: string, args: readonly string[], options: CommandOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(program, {
      args: [...args],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: { ...options.env }, clearEnv: true }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw toolMissing(program, error);
  }
}

/** The error for a program that is not installed. */
export function toolMissing(program: string, cause?: unknown): ImageError {
  const debianPackage = packageOf(program);
  const hint = debianPackage === undefined
    ? `Install the program "${program}"`
    : `Install it: apt-get install -y ${debianPackage} (or: deno task sandbox doctor --install)`;
  return new ImageError("tool_missing", `The program "${program}" is not installed`, hint, { cause });
}

function failure(argv: readonly string[], status: Deno.CommandStatus, tail: string): ImageError {
  const how = status.signal === null ? `exit code ${status.code}` : status.signal;
  const text = tail.trimEnd();
  if (/no space left on device|disk quota exceeded/i.test(text)) {
    return diskFull(argv.at(-1) ?? "", new ImageError("command_failed", text, ""));
  }
  const last = text.split("\n").slice(-6).join("\n");
  return new ImageError(
    "command_failed",
    `${argv[0] ?? ""} ended with ${how}${last === "" ? "" : `:\n${last}`}`,
    `Command: ${argv.join(" ").slice(0, 400)}`,
    { output: text },
  );
}

/** Calls `onLine` with each line of a byte stream; a last line without a newline counts too. */
export async function forEachLine(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  onLine: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  }
  if (rest !== "") onLine(rest);
}
