/**
 * Gives back what a thread's start left over. A thread that blocks in system calls never idles as V8 sees it, so V8
 * would keep it.
 *
 * @module
 */

/** Frees what is unreachable, where Deno runs with `--v8-flags=--expose-gc`; otherwise does nothing. */
export function collectGarbage(): void {
  const { gc } = globalThis as unknown as {
    gc?: (options: { type: "major"; flavor: "last-resort" }) => void;
  };
  gc?.({ type: "major", flavor: "last-resort" });
}
