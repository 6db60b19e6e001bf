/**
 * Watches a running guest: one that no longer answers on its control channel has hung, and would otherwise hold its
 * session until the time limit.
 *
 * @module
 */

/** When a guest counts as hung. */
export interface HeartbeatLimits {
  /** pause between two questions in `ms` */
  readonly intervalMs: number;
  /** longest wait for an answer in `ms`: a guest under load answers late, not never */
  readonly silenceMs: number;
}

const LIMITS: HeartbeatLimits = { intervalMs: 10_000, silenceMs: 60_000 };

/**
 * Asks `ping` again and again until disposed. A question that fails or stays open for `silenceMs` is the last one:
 * `onSilent` is told.
 */
export function startHeartbeat(
  ping: () => Promise<void>,
  onSilent: (message: string) => void,
  limits: HeartbeatLimits = LIMITS,
): Disposable {
  const silence = `Guest did not answer for ${limits.silenceMs / 1000} s`;
  let timer: ReturnType<typeof setTimeout>;
  let over = false;
  const end = (message: string): void => {
    if (over) return;
    over = true;
    clearTimeout(timer);
    onSilent(message);
  };
  const ask = (): void => {
    timer = setTimeout(() => end(silence), limits.silenceMs);
    ping().then(
      () => {
        clearTimeout(timer);
        if (!over) timer = setTimeout(ask, limits.intervalMs);
      },
      (error: Error) => end(`Guest's init does not answer: ${error.message}`),
    );
  };
  timer = setTimeout(ask, limits.intervalMs);
  return {
    [Symbol.dispose]: () => {
      over = true;
      clearTimeout(timer);
    },
  };
}
