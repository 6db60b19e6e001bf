/**
 * This terminal, given over to a command that runs in a session.
 *
 * @module
 */

import type { ExecChild, TerminalSize } from "../api/client.ts";

/** Size of a terminal that does not know its own. */
const USUAL_SIZE: TerminalSize = { rows: 24, cols: 80 };

/** Whether there is a terminal to give: both what is typed and what is shown. */
export function hasTerminal(): boolean {
  return Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
}

/** The size of this terminal's window. */
export function terminalSize(): TerminalSize {
  const { columns, rows } = Deno.consoleSize();
  return columns > 0 && rows > 0 ? { rows, cols: columns } : USUAL_SIZE;
}

/** Calls back with the size of this terminal's window, now and after each change, until what it returns is called. */
export function watchWindow(onSize: (size: TerminalSize) => void): () => void {
  if (!Deno.stdout.isTerminal()) return () => {};
  const tell = (): void => onSize(terminalSize());
  Deno.addSignalListener("SIGWINCH", tell);
  tell();
  return () => Deno.removeSignalListener("SIGWINCH", tell);
}

/** Connects this process's streams with a command's until it ends; gives its exit code. */
export async function attachStreams(child: ExecChild, options: { readonly stdin: boolean }): Promise<number> {
  const over = new AbortController();
  const { signal } = over;
  if (options.stdin) {
    void Deno.stdin.readable.pipeTo(child.stdin, { signal, preventCancel: true })
      .catch(() => {/* the command ended without reading it all */});
  }
  const kept = { preventClose: true };
  await Promise.all([
    child.stdout.pipeTo(Deno.stdout.writable, kept),
    child.stderr.pipeTo(Deno.stderr.writable, kept),
  ]);
  try {
    return (await child.status).code;
  } finally {
    over.abort();
  }
}

/** Gives this terminal to a command: every key goes to it. Gives its exit code. */
export async function attachTerminal(child: ExecChild): Promise<number> {
  const unwatch = watchWindow((size) => child.resize(size));
  Deno.stdin.setRaw(true);
  try {
    return await attachStreams(child, { stdin: true });
  } finally {
    Deno.stdin.setRaw(false);
    unwatch();
  }
}
