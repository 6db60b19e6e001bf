/**
 * Carries bytes between two connections in both directions, until both have ended or a limit is reached.
 *
 * @module
 */

/** What a spliced connection may cost. */
export interface SpliceLimits {
  /** bytes of each direction */
  readonly maxBytes: number;
  /** longest time without a byte in either direction, in `ms` */
  readonly idleTimeoutMs: number;
}

/** Options of {@linkcode splice}. */
export interface SpliceOptions extends SpliceLimits {
  /** bytes that were read from the guest already and go first */
  readonly first: readonly Uint8Array[];
  /** bytes that the guest still has to send: nothing after them is carried (default: until it ends) */
  readonly guestBytes?: number;
}

/** What passed. */
export interface SpliceFacts {
  readonly bytesToHost: number;
  readonly bytesToGuest: number;
  /** why it was cut (undefined: both sides ended it) */
  readonly cut?: "silent" | "too_large";
}

const CHUNK_BYTES = 64 * 1024;

/** Writes all of the bytes. */
export async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

/** Closes a connection that may be closed already. */
export function closeQuietly(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // It was closed already.
  }
}

/** Carries bytes between `guest` and `host`; closes both. */
export async function splice(
  guest: Deno.Conn,
  host: Deno.Conn,
  options: SpliceOptions,
): Promise<SpliceFacts> {
  const { maxBytes, idleTimeoutMs, first } = options;
  const counts = { toHost: 0, toGuest: 0 };
  let cut: SpliceFacts["cut"];
  let lastAt = performance.now();
  const closeBoth = (): void => [guest, host].forEach(closeQuietly);
  const timer = setInterval(() => {
    if (performance.now() - lastAt < idleTimeoutMs) return;
    cut ??= "silent";
    closeBoth();
  }, Math.min(idleTimeoutMs, 1000));
  const carry = async (from: Deno.Conn, to: Deno.Conn, way: keyof typeof counts): Promise<void> => {
    const chunk = new Uint8Array(CHUNK_BYTES);
    const expected = way === "toHost" ? options.guestBytes : undefined;
    for (let left = expected ?? maxBytes; left > 0;) {
      const count = await from.read(chunk.subarray(0, Math.min(left, CHUNK_BYTES)));
      if (count === null) return await to.closeWrite();
      lastAt = performance.now();
      await writeAll(to, chunk.subarray(0, count));
      counts[way] += count;
      left -= count;
    }
    // A request is over; its connection stays open, since servers take a closed half for a client that is gone.
    if (expected !== undefined) return;
    cut ??= "too_large";
    closeBoth();
  };
  try {
    for (const bytes of first) {
      await writeAll(host, bytes);
      counts.toHost += bytes.length;
    }
    await Promise.all([carry(guest, host, "toHost"), carry(host, guest, "toGuest")]);
  } catch {
    // One side went away, or was cut: so must the other.
  } finally {
    clearInterval(timer);
    closeBoth();
  }
  return { bytesToHost: counts.toHost, bytesToGuest: counts.toGuest, ...(cut === undefined ? {} : { cut }) };
}
