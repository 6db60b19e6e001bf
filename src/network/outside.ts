/**
 * The way from the proxy to the world: resolves a name with the host's resolver, checks every address that
 * comes of it, and connects to a checked address itself, never to the name again.
 *
 * @module
 */

import { lookup } from "node:dns/promises";
import { addressRefusal } from "./public_address.ts";

/** Longest wait for a name's addresses, and for one connection, in `ms`. */
const RESOLVE_LIMIT_MS = 10_000;
const CONNECT_LIMIT_MS = 10_000;
/** Most addresses of one name that are tried. */
const MAX_TRIED = 3;

/** What leads outside: the host's own in real use. */
export interface Outside {
  /** all addresses of a name */
  resolve(name: string): Promise<readonly string[]>;
  /** connects to an address that was checked */
  connect(address: string, port: number): Promise<Deno.Conn>;
  /** addresses of the host itself, public ones too */
  ownAddresses(): readonly string[];
}

/** The host's resolver, interfaces and network. */
export const HOST_OUTSIDE: Outside = {
  async resolve(name): Promise<readonly string[]> {
    const found = await lookup(name, { all: true, order: "ipv4first" });
    return found.map(({ address }) => address);
  },
  connect: (hostname, port) => Deno.connect({ hostname, port }),
  ownAddresses: () => Deno.networkInterfaces().map(({ address }) => address),
};

/** A name cannot be connected to; the message is for whoever reads the decision. */
export class OutsideError extends Error {
  override readonly name = "OutsideError";
  /** true: it was refused; false: it failed */
  readonly isRefusal: boolean;

  constructor(message: string, isRefusal: boolean, options?: ErrorOptions) {
    super(message, options);
    this.isRefusal = isRefusal;
  }
}

/** Waits for `promise` up to a limit; what it gives later is disposed of. */
async function within<T>(
  promise: Promise<T>,
  limitMs: number,
  dispose: (late: T) => void,
): Promise<T | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<undefined>((resolve) => timer = setTimeout(() => resolve(undefined), limitMs));
  try {
    const first = await Promise.race([promise, limit]);
    if (first === undefined) promise.then(dispose, () => {/* it failed too late to matter */});
    return first;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The addresses of a name, all of them out in the world.
 *
 * @throws {OutsideError} when one of them is not, or there are none
 */
export async function checkedAddresses(outside: Outside, name: string): Promise<readonly string[]> {
  let found: readonly string[] | undefined;
  try {
    found = await within(outside.resolve(name), RESOLVE_LIMIT_MS, () => {});
  } catch (cause) {
    throw new OutsideError("name does not resolve on the host", false, { cause });
  }
  if (found === undefined || found.length === 0) {
    throw new OutsideError("name does not resolve on the host", false);
  }
  const own = new Set(outside.ownAddresses());
  for (const address of found) {
    // All of them: a name that is partly inside is an attempt to get there.
    const kind = addressRefusal(address) ?? (own.has(address) ? "the host's own" : undefined);
    if (kind !== undefined) throw new OutsideError(`name resolves to ${address} (${kind})`, true);
  }
  return found;
}

/**
 * Connects to a name.
 *
 * @throws {OutsideError} when one of its addresses is not to be reached, or none can be
 */
export async function connectOutside(outside: Outside, name: string, port: number): Promise<Deno.Conn> {
  const addresses = await checkedAddresses(outside, name);
  for (const address of addresses.slice(0, MAX_TRIED)) {
    try {
      const connection = await within(
        outside.connect(address, port),
        CONNECT_LIMIT_MS,
        (late) => late.close(),
      );
      if (connection !== undefined) return connection;
    } catch {
      // The next address may answer; that none did is said below.
    }
  }
  throw new OutsideError("connection failed", false);
}
