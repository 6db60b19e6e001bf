import assert from "node:assert/strict";
import { GuestClient, readHello } from "../../src/session/guest_client.ts";
import { encodeFrame, encodeWords, GuestProtocolError } from "../../src/session/guest_frames.ts";

/** Both ends of a connection: what a hostile guest sends, and what the host makes of it. */
async function withGuest<T>(
  send: (guest: Deno.UnixConn) => Promise<void>,
  host: (path: string) => Promise<T>,
): Promise<T> {
  const folder = await Deno.makeTempDir();
  const listener = Deno.listen({ transport: "unix", path: `${folder}/v.sock` });
  const serving = (async (): Promise<void> => {
    const conn = await listener.accept();
    await send(conn).catch(() => {/* the host hung up on it */});
    conn.close();
  })();
  try {
    return await host(`${folder}/v.sock`);
  } finally {
    await serving;
    listener.close();
    await Deno.remove(folder, { recursive: true });
  }
}

async function greet(guest: Deno.UnixConn): Promise<void> {
  await guest.read(new Uint8Array(64));
  await guest.write(new TextEncoder().encode("OK 1\n"));
}

/** What `ping()` makes of a guest that answers with these bytes. */
function pingAnswered(bytes: Uint8Array): Promise<void> {
  return withGuest(async (guest) => {
    await greet(guest);
    await guest.read(new Uint8Array(64));
    await guest.write(bytes);
  }, (path) => new GuestClient(path).ping());
}

Deno.test("a guest's answer of the wrong type, too long, or cut short is an error", async () => {
  await assert.rejects(pingAnswered(encodeFrame("q")), GuestProtocolError);
  await assert.rejects(pingAnswered(Uint8Array.of(0x72, 0, 0, 2, 0)), GuestProtocolError);
  await assert.rejects(pingAnswered(Uint8Array.of(0x72, 5)), GuestProtocolError);
  await assert.rejects(pingAnswered(new Uint8Array()), GuestProtocolError);
  await assert.rejects(pingAnswered(encodeFrame("X", new Uint8Array(2))), GuestProtocolError);
});

Deno.test("a guest that does not greet as agreed is an error, however long it talks", async () => {
  for (const greeting of ["NO\n", "OK\n", "OK x\n", "x".repeat(10_000), ""]) {
    const ping = withGuest(async (guest) => {
      await guest.write(new TextEncoder().encode(greeting));
    }, (path) => new GuestClient(path).ping());
    await assert.rejects(ping, (error) => error instanceof Error, greeting.slice(0, 10));
  }
});

Deno.test("a guest's words about how a command ended are checked", async () => {
  const exits = [new Uint8Array(), Uint8Array.of(9, 0, 0, 0, 0), Uint8Array.of(0, 1)];
  for (const payload of exits) {
    await withGuest(async (guest) => {
      await greet(guest);
      await guest.read(new Uint8Array(1024));
      await guest.write(encodeFrame("x", payload));
    }, async (path) => {
      const silent = { onStdout: (): void => {}, onStderr: (): void => {} };
      const process = await new GuestClient(path).exec({
        argv: ["x"],
        env: {},
        cwd: "/",
        user: "root",
        ...silent,
      });
      await assert.rejects(process.exit, GuestProtocolError);
    });
  }
});

Deno.test("readHello() takes only the version that it knows", async () => {
  for (const words of [[["version", "2"]], [["kernel", "x"]], []] as [string, string][][]) {
    await withGuest(
      async (guest) => void await guest.write(encodeFrame("H", encodeWords(words))),
      async (path) =>
        assert.rejects(readHello(await Deno.connect({ transport: "unix", path })), GuestProtocolError),
    );
  }
});

Deno.test("a guest that sends more of its files than it may is cut off", async () => {
  await withGuest(async (guest) => {
    await greet(guest);
    await guest.read(new Uint8Array(64));
    for (;;) await guest.write(encodeFrame("d", new Uint8Array(30_000)));
  }, async (path) => {
    await assert.rejects(async () => {
      for await (const _ of new GuestClient(path).get("/workspace", 100_000)) { /* read on */ }
    }, GuestProtocolError);
  });
});
