/**
 * The service elsewhere that commands go to, where the user named one: by `--server` and `--token`, or by
 * `PADDOCK_SERVER` and `PADDOCK_API_TOKEN`.
 *
 * @module
 */

import { join } from "node:path";
import { ApiClient } from "../api/client.ts";
import { stateDir } from "../images/paths.ts";
import { LocalError } from "./local_error.ts";

/** Where `sandbox serve` listens if it is not told otherwise. */
const DEFAULT_URL = "http://127.0.0.1:8080";
/** File in the state folder with the token of this machine's own service. */
const TOKEN_NAME = "serve.token";

/** What the command line says of a server. */
export interface ServerChoice {
  readonly url?: string | undefined;
  readonly token?: string | undefined;
}

let chosen: ServerChoice = {};

/** Sets what the command line says; it goes before the environment. */
export function chooseServer(choice: ServerChoice): void {
  chosen = choice;
}

/** Whether a URL leads to this machine itself. */
export function leadsHere(url: URL): boolean {
  return /^(localhost|127\.[0-9.]+|\[::1\])$/.test(url.hostname);
}

async function ownToken(): Promise<string | undefined> {
  try {
    return (await Deno.readTextFile(join(stateDir(), TOKEN_NAME))).trim();
  } catch {
    return undefined; // none was made, or it is another user's
  }
}

async function clientOf(text: string): Promise<ApiClient> {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new LocalError("usage", `--server must be an http or https URL: received "${text}"`);
  }
  const url = new URL(text);
  const given = chosen.token ?? (Deno.env.get("PADDOCK_API_TOKEN") || undefined);
  if (given !== undefined && url.protocol === "http:" && !leadsHere(url)) {
    throw new LocalError("usage", "A token is sent over https only: others could read it on the way");
  }
  const token = given ?? (leadsHere(url) ? await ownToken() : undefined);
  if (token === undefined) {
    throw new LocalError("usage", "The server needs a token: --token TOKEN, or PADDOCK_API_TOKEN");
  }
  return new ApiClient({ baseUrl: url.href.replace(/\/$/, ""), token });
}

/** The server that the user named (undefined: none was). @throws {LocalError} */
export async function remoteServer(): Promise<ApiClient | undefined> {
  const url = chosen.url ?? Deno.env.get("PADDOCK_SERVER") ?? "";
  return url === "" ? undefined : await clientOf(url);
}

/** The server that the user named, or this machine's own. @throws {LocalError} */
export async function requireServer(): Promise<ApiClient> {
  return await remoteServer() ?? await clientOf(DEFAULT_URL);
}
