/**
 * The real init program as a guest: on this machine, behind a socket that greets as a VMM's vsock device does.
 *
 * @module
 */

import { splice } from "../../src/network/splice.ts";
import { GuestClient } from "../../src/session/guest_client.ts";
import { initUnavailable, NativeInit } from "./guest_init.ts";

/** Plays the VMM's part: greets on one socket as its vsock device does, and passes on to the init's. */
async function serveHandshake(listener: Deno.UnixListener, target: string): Promise<void> {
  for await (const conn of listener) {
    void (async () => {
      const greeting = new Uint8Array(64);
      await conn.read(greeting);
      await conn.write(new TextEncoder().encode("OK 7\n"));
      const init = await Deno.connect({ transport: "unix", path: target });
      await splice(conn, init, { first: [], maxBytes: Infinity, idleTimeoutMs: 60_000 });
    })();
  }
}

/** Gives a client of the init, and a folder that is the test's. */
export async function withNativeGuest(
  use: (guest: GuestClient, folder: string) => Promise<void>,
): Promise<void> {
  await using init = await NativeInit.start();
  const path = `${init.folder}/v.sock`;
  const listener = Deno.listen({ transport: "unix", path });
  const serving = serveHandshake(listener, init.socket);
  try {
    await use(new GuestClient(path), init.folder);
  } finally {
    listener.close();
    await serving.catch(() => {});
  }
}

/** A test with such a guest; what the guest's connections do after it is not looked at. */
export function testWithNativeGuest(name: string, fn: () => Promise<void>): void {
  const ignore = initUnavailable !== undefined || Deno.uid() !== 0;
  Deno.test({
    name: ignore ? `${name} (skipped: needs musl-gcc and root)` : name,
    ignore,
    sanitizeOps: false,
    sanitizeResources: false,
    fn,
  });
}
