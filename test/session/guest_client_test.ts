import assert from "node:assert/strict";
import { GuestOperationError } from "../../src/session/guest_connection.ts";
import type { GuestClient, GuestCommand } from "../../src/session/guest_client.ts";
import { readFileChunks } from "../../src/session/workspace_scan.ts";
import { initUnavailable } from "../support/guest_init.ts";
import { withNativeGuest } from "../support/native_guest.ts";

/** Runs a shell script through the guest and collects what it printed. */
async function shell(
  guest: GuestClient,
  script: string,
  change: Partial<GuestCommand> = {},
): Promise<{ stdout: string; stderr: string; exit: unknown }> {
  const decoder = new TextDecoder();
  const output = { stdout: "", stderr: "" };
  const process = await guest.exec({
    argv: ["/bin/sh", "-c", script],
    env: { PATH: "/usr/bin:/bin" },
    cwd: "/",
    user: "root",
    onStdout: (chunk) => void (output.stdout += decoder.decode(chunk)),
    onStderr: (chunk) => void (output.stderr += decoder.decode(chunk)),
    ...change,
  });
  const exit = await process.exit;
  return { ...output, exit };
}

const ignore = initUnavailable !== undefined;
const testGuest = (name: string, fn: () => Promise<void>): void =>
  Deno.test({
    name: ignore ? `${name} (skipped: ${initUnavailable})` : name,
    ignore,
    sanitizeOps: false,
    sanitizeResources: false,
    fn,
  });

testGuest("GuestClient.exec() keeps stdout, stderr and the exit code apart", async () => {
  await withNativeGuest(async (guest) => {
    const decoder = new TextDecoder();
    let stdout = "";
    let stderr = "";
    const process = await guest.exec({
      argv: ["sh", "-c", 'echo "$A"; pwd; echo err >&2; exit 7'],
      env: { PATH: "/usr/bin:/bin", A: "x y" },
      cwd: "/usr",
      user: "root",
      onStdout: (chunk) => void (stdout += decoder.decode(chunk)),
      onStderr: (chunk) => void (stderr += decoder.decode(chunk)),
    });
    assert.deepEqual(await process.exit, { exitCode: 7, signal: null, timedOut: false });
    assert.deepEqual([stdout, stderr], ["x y\n/usr\n", "err\n"]);
  });
});

testGuest("GuestClient.exec() carries signals to the command", async () => {
  await withNativeGuest(async (guest) => {
    const running = Promise.withResolvers<void>();
    const process = await guest.exec({
      argv: ["/bin/sh", "-c", "echo up; exec sleep 60"],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      user: "root",
      onStdout: () => running.resolve(),
      onStderr: () => {},
    });
    await running.promise;
    await process.signal(15);
    assert.deepEqual(await process.exit, { exitCode: null, signal: 15, timedOut: false });
  });
});

testGuest("GuestClient.exec() delivers a large output whole to a slow reader", async () => {
  await withNativeGuest(async (guest) => {
    let byteCount = 0;
    const { exit } = await shell(guest, "head -c 5000000 /dev/zero", {
      onStdout: async (chunk) => {
        byteCount += chunk.length;
        if (byteCount % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      },
    });
    assert.deepEqual(exit, { exitCode: 0, signal: null, timedOut: false });
    assert.equal(byteCount, 5_000_000);
  });
});

testGuest("GuestClient.exec() reports a command that cannot be started", async () => {
  await withNativeGuest(async (guest) => {
    const process = await guest.exec({
      argv: ["/no/such/program"],
      env: {},
      cwd: "/",
      user: "root",
      onStdout: () => {},
      onStderr: () => {},
    });
    await assert.rejects(process.exit, GuestOperationError);
  });
});

testGuest("GuestClient.put() and get() carry a tree with links, modes and odd names", async () => {
  await withNativeGuest(async (guest, folder) => {
    const make =
      `mkdir -p in/deep in/empty; echo a > "in/a file"; printf '#!/bin/sh\\n' > in/deep/run; chmod 755 in/deep/run
      ln -s deep/run in/link; ln in/deep/run in/hard; head -c 100000 /dev/urandom > in/bin; : > in/none
      n=$(printf 'n%.0s' $(seq 120)); mkdir -p in/$n/$n; echo long > in/$n/$n/f; tar -C in -cf in.tar .`;
    const made = await new Deno.Command("sh", { args: ["-ec", make], cwd: folder }).output();
    assert.equal(made.code, 0);
    await guest.put(readFileChunks(`${folder}/in.tar`), { path: `${folder}/out` });
    using back = await Deno.open(`${folder}/back.tar`, { write: true, createNew: true });
    for await (const chunk of guest.get(`${folder}/out`, 10_000_000)) {
      for (let at = 0; at < chunk.length;) at += await back.write(chunk.subarray(at));
    }
    const compare =
      `diff -r --no-dereference in out; mkdir again; tar -C again -xf back.tar; diff -r --no-dereference in again
      test -x again/deep/run; test -d again/empty; test "$(readlink again/link)" = deep/run`;
    const compared = await new Deno.Command("sh", { args: ["-ec", compare], cwd: folder }).output();
    assert.equal(
      compared.code,
      0,
      new TextDecoder().decode(compared.stdout) + new TextDecoder().decode(compared.stderr),
    );
  });
});

testGuest("GuestClient.get() stops at its limit", async () => {
  await withNativeGuest(async (guest, folder) => {
    await Deno.mkdir(`${folder}/big`);
    await Deno.writeFile(`${folder}/big/file`, new Uint8Array(1_000_000));
    await assert.rejects(async () => {
      for await (const _ of guest.get(`${folder}/big`, 100_000)) { /* read on */ }
    });
  });
});

testGuest("GuestClient.put() reports why the guest refuses an archive", async () => {
  await withNativeGuest(async (guest, folder) => {
    async function* rubbish(): AsyncGenerator<Uint8Array> {
      for (let count = 0; count < 100; count++) {
        yield await Promise.resolve(new Uint8Array(20_000).fill(0x41));
      }
    }
    await assert.rejects(guest.put(rubbish(), { path: `${folder}/out` }), GuestOperationError);
  });
});

testGuest("GuestClient.ping() is answered", async () => {
  await withNativeGuest((guest) => guest.ping());
});

testGuest("GuestClient.exec() carries stdin to its end, more than the guest keeps at once", async () => {
  await withNativeGuest(async (guest) => {
    let counted = "";
    const process = await guest.exec({
      argv: ["/bin/sh", "-c", "sleep 0.2; wc -c"],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/",
      user: "root",
      stdin: true,
      onStdout: (chunk) => void (counted += new TextDecoder().decode(chunk)),
      onStderr: () => {},
    });
    for (let sent = 0; sent < 10; sent++) await process.write(new Uint8Array(100_000));
    await process.closeStdin();
    assert.deepEqual(await process.exit, { exitCode: 0, signal: null, timedOut: false });
    assert.equal(counted.trim(), "1000000");
  });
});

testGuest("GuestClient.exec() gives a command a terminal that is typed at and resized", async () => {
  await withNativeGuest(async (guest) => {
    let seen = "";
    const watchers: { text: string; resolve: () => void }[] = [];
    const sees = (text: string): Promise<void> =>
      new Promise((resolve) => {
        if (seen.includes(text)) resolve();
        else watchers.push({ text, resolve });
      });
    const process = await guest.exec({
      argv: [
        "/bin/sh",
        "-c",
        "trap 'stty size' WINCH; stty size; while :; do read -r line && echo got $line; done",
      ],
      env: { PATH: "/usr/bin:/bin", TERM: "dumb" },
      cwd: "/",
      user: "root",
      terminal: { rows: 33, cols: 101 },
      onStdout: (chunk) => {
        seen += new TextDecoder().decode(chunk);
        for (const { text, resolve } of watchers) if (seen.includes(text)) resolve();
      },
      onStderr: () => {},
    });
    await sees("33 101");
    await process.resize({ rows: 50, cols: 300 });
    await process.write(new TextEncoder().encode("hello\r"));
    await sees("got hello");
    await sees("50 300");
    await process.write(new TextEncoder().encode("\x03"));
    assert.equal((await process.exit).signal, 2);
  });
});

testGuest(
  "GuestClient.connect() carries bytes both ways to a port of the guest's, half-closed ends too",
  async () => {
    await withNativeGuest(async (guest) => {
      using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const served = (async (): Promise<number> => {
        using conn = await server.accept();
        await conn.write(new TextEncoder().encode("220 first word is the server's\r\n"));
        let byteCount = 0;
        for await (const chunk of conn.readable) byteCount += chunk.length;
        return byteCount;
      })();
      const { conn, first } = await guest.connect(server.addr.port);
      let greeting = new TextDecoder().decode(first);
      const buffer = new Uint8Array(1000);
      while (!greeting.endsWith("\n")) {
        const count = await conn.read(buffer);
        greeting += new TextDecoder().decode(buffer.subarray(0, count ?? 0));
      }
      assert.equal(greeting, "220 first word is the server's\r\n");
      const data = new Uint8Array(1_000_000).fill(7);
      for (let at = 0; at < data.length;) at += await conn.write(data.subarray(at));
      conn.close();
      assert.equal(await served, 1_000_000);
    });
  },
);

testGuest("GuestClient.connect() says that nobody listens on a port", async () => {
  await withNativeGuest(async (guest) => {
    await assert.rejects(guest.connect(1), /cannot connect to port 1: Connection refused/);
  });
});
