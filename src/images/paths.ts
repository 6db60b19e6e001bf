/**
 * Where built things and running things live on this machine.
 *
 * @module
 */
import { join } from "node:path";

function folder(own: string, xdg: string, fallback: string): string {
  const given = Deno.env.get(own);
  if (given) return given;
  const base = Deno.env.get(xdg);
  if (base) return join(base, "paddock");
  return join(Deno.env.get("HOME") || "/root", fallback, "paddock");
}

/** Folder of built things, named by their content: kernels, images, downloaded packages. Safe to delete. */
export function cacheDir(): string {
  return folder("PADDOCK_CACHE", "XDG_CACHE_HOME", ".cache");
}

/** Folder of running things: sessions, the database, the emulated host's records. */
export function stateDir(): string {
  return folder("PADDOCK_STATE", "XDG_STATE_HOME", ".local/state");
}

/** Folder of the user's settings. */
export function configDir(): string {
  return folder("PADDOCK_CONFIG", "XDG_CONFIG_HOME", ".config");
}

/** Folder of the program's own source tree. */
export function sourceDir(): string {
  return join(import.meta.dirname ?? ".", "../..");
}
