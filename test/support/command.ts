/**
 * Programs that tests call.
 *
 * @module
 */

/** A program that a test called did not do what it should. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

/** Whether something is at `path`. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false; // absent
  }
}

/** Whether a program is installed. */
export function hasTool(name: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((folder) => {
    try {
      return Deno.statSync(`${folder}/${name}`).isFile;
    } catch {
      return false; // not in this folder
    }
  });
}

/**
 * Runs a program to its end; its stdout.
 *
 * @throws {CommandError} with its stderr, if it ends with another code than the accepted ones
 */
export function run(program: string, args: readonly string[], accepted: readonly number[] = [0]): string {
  const { code, stdout, stderr } = new Deno.Command(program, { args: [...args] }).outputSync();
  const text = new TextDecoder();
  if (!accepted.includes(code)) {
    throw new CommandError(
      `${program} ${args.join(" ")}: ${code}\n${text.decode(stdout)}${text.decode(stderr)}`,
    );
  }
  return text.decode(stdout);
}
