/**
 * What must be so before a server listens: nobody who should not is let in, and nobody else serves this state folder.
 *
 * @module
 */

import { join } from "node:path";
import type { TokenStore } from "../store/token_store.ts";
import { LocalError } from "./local_error.ts";
import { isLoopback } from "./public_server.ts";
import { tokenState } from "./tokens.ts";

/** Where a server is to listen, and who stands before it. */
export interface ListenOptions {
  readonly hostname: string;
  readonly port: number;
  /** names that lead to it */
  readonly names: readonly string[];
  /** files in PEM */
  readonly tls?: { readonly certFile: string; readonly keyFile: string } | undefined;
  readonly isBehindProxy: boolean;
}

const TOKEN_NAME = "serve.token";

/** @throws {LocalError} that says what to do, where others could come in who should not */
export function requireSafeListen(options: ListenOptions, tokens: TokenStore): void {
  const { hostname, names, tls, isBehindProxy } = options;
  const isLocal = isLoopback(hostname) && !isBehindProxy;
  if (isLocal) return;
  const where = isBehindProxy ? "Behind a proxy" : `On ${hostname}`;
  if (!tokens.list().some((token) => tokenState(token) === "valid")) {
    const what = `${where} others can reach the server, and there is no token yet`;
    throw new LocalError("usage", `${what}: make one first, with sandbox token create NAME`);
  }
  if (tls === undefined && !isBehindProxy) {
    const what = `${where} tokens would go over the network in the clear`;
    const how = "give --tls-cert FILE and --tls-key FILE, or --behind-proxy where a proxy does TLS";
    throw new LocalError("usage", `${what}: ${how}`);
  }
  if (isBehindProxy && isLoopback(hostname) && names.length === 0) {
    throw new LocalError("usage", "--behind-proxy needs --host NAME: the name that the proxy is reached by");
  }
}

/** Path of the token that a server on loopback made for this user. */
export function localTokenPath(folder: string): string {
  return join(folder, TOKEN_NAME);
}

/** The token for this user, made where there is none of any kind (undefined: there are others, and this user has one). */
export async function localToken(folder: string, tokens: TokenStore): Promise<string | undefined> {
  const path = localTokenPath(folder);
  const text = await Deno.readTextFile(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  });
  if (typeof tokens.check(text.trim()) !== "string") return path;
  if (tokens.list().some((token) => tokenState(token) === "valid")) return undefined;
  const made = tokens.create({
    name: "local",
    scopes: ["admin"],
    expiresAt: null,
    ratePerMinute: LOCAL_RATE_PER_MINUTE,
    maxActive: null,
  });
  const draft = `${path}.new`;
  await Deno.remove(draft).catch(() => {/* there is none */});
  // Made anew: the mode of a file that is there would stay
  await Deno.writeTextFile(draft, `${made.text}\n`, { mode: 0o600, createNew: true });
  await Deno.rename(draft, path);
  return path;
}

/** This user's own machine need not be kept from itself. */
const LOCAL_RATE_PER_MINUTE = 1_000_000;

/** Holds a state folder for one server until it is disposed of. @throws {LocalError} when another one has it */
export function lockFolder(folder: string): Disposable {
  const path = join(folder, "serve.lock");
  const file = Deno.openSync(path, { create: true, write: true, read: true, mode: 0o600 });
  if (file.tryLockSync(true)) return { [Symbol.dispose]: () => file.close() };
  file.close();
  const how = "stop it first, or give another folder with --state DIR";
  throw new LocalError("usage", `A server uses the state folder ${folder} already: ${how}`);
}

/** The sentence about what a state folder does not allow. */
export function folderError(folder: string, cause: unknown): LocalError {
  if (cause instanceof LocalError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  const shown = (what: string): LocalError => new LocalError("host", what, { cause });
  if (/read-?only|EROFS/i.test(why)) {
    return shown(`The state folder ${folder} is read-only: give another one with --state DIR`);
  }
  if (cause instanceof Deno.errors.PermissionDenied) {
    return shown(`The state folder ${folder} belongs to somebody else: give another one with --state DIR`);
  }
  if (/no space|disk is full|ENOSPC/i.test(why)) {
    return shown(
      `The disk of the state folder ${folder} is full: make room, or give another one with --state DIR`,
    );
  }
  return shown(`Cannot use the state folder ${folder}: ${why}`);
}

/** The sentence about an address that cannot be listened on. */
export function listenError(hostname: string, port: number, cause: unknown): LocalError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const [where, options] = [`${hostname}:${port}`, { cause }];
  if (cause instanceof Deno.errors.AddrInUse) {
    const what = `Something listens on ${where} already: stop it, or take another port with --listen`;
    return new LocalError("host", what, options);
  }
  if (cause instanceof Deno.errors.AddrNotAvailable) {
    return new LocalError("usage", `${hostname} is no address of this machine`, options);
  }
  if (cause instanceof Deno.errors.PermissionDenied) {
    return new LocalError("host", `Listening on ${where} takes root: take a port from 1024`, options);
  }
  return new LocalError("host", `Cannot listen on ${where}: ${why}`, options);
}
