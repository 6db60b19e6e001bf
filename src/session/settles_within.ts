/**
 * Waits for something, but not for ever.
 *
 * @module
 */

/** Whether a promise is fulfilled within so many `ms`; what becomes of it later is not looked at. @throws what it rejects with */
export async function settlesWithin(timeoutMs: number, promise: Promise<unknown>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
