/**
 * Runs a program on a pseudo-terminal, with `script` of util-linux, and types at it.
 *
 * @module
 */

/** A program on a pseudo-terminal. */
export interface PtyChild extends AsyncDisposable {
  /** everything that it printed so far */
  readonly text: string;
  /** Types. */
  type(text: string): Promise<void>;
  /** Waits until a pattern occurs in what was printed after `from`; gives the end of the match. */
  expect(pattern: RegExp, options: { readonly from?: number; readonly limitMs: number }): Promise<number>;
  readonly status: Promise<Deno.CommandStatus>;
}

/** Starts a shell command on a pseudo-terminal. */
export function startOnPty(command: string, env: Record<string, string> = {}): PtyChild {
  const child = new Deno.Command("script", {
    args: ["-qefc", command, "/dev/null"],
    env: { TERM: "vt100", ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const writer = child.stdin.getWriter();
  let text = "";
  let ended = false;
  const reading = (async (): Promise<void> => {
    for await (
      const piece of child.stdout.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
    ) {
      text += piece;
    }
    ended = true;
  })();
  return {
    get text(): string {
      return text;
    },
    status: child.status,
    type: (typed) => writer.write(new TextEncoder().encode(typed)),
    async expect(pattern, { from = 0, limitMs }): Promise<number> {
      const deadline = performance.now() + limitMs;
      for (;;) {
        const match = pattern.exec(text.slice(from));
        if (match !== null) return from + match.index + match[0].length;
        if (ended || performance.now() > deadline) {
          throw new Error(`Did not see ${pattern} in ${limitMs} ms; saw: ${text.slice(-2000)}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async [Symbol.asyncDispose](): Promise<void> {
      try {
        child.kill("SIGTERM");
      } catch {
        // It has ended.
      }
      await writer.close().catch(() => {/* nobody reads any more */});
      await Promise.all([child.status, reading]);
    },
  };
}
