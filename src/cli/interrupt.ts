/**
 * Turns the first Ctrl-C, SIGTERM or SIGHUP into an abort signal, so that everything is given back; a second
 * one leaves at once (the next start then cleans up).
 *
 * @module
 */

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const INTERRUPTED_CODE = 130;

/** A signal that aborts on the first interruption. */
export interface Interruption extends Disposable {
  readonly signal: AbortSignal;
}

/** Listens until it is disposed; `onInterrupt` is told of the first interruption. */
export function untilInterrupted(onInterrupt: () => void): Interruption {
  const controller = new AbortController();
  const listener = (): void => {
    if (controller.signal.aborted) Deno.exit(INTERRUPTED_CODE);
    onInterrupt();
    controller.abort(new DOMException("Interrupted", "AbortError"));
  };
  for (const name of SIGNALS) Deno.addSignalListener(name, listener);
  return {
    signal: controller.signal,
    [Symbol.dispose](): void {
      for (const name of SIGNALS) Deno.removeSignalListener(name, listener);
    },
  };
}
