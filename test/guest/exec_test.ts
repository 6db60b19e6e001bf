import assert from "node:assert/strict";
import { GuestConnection, joined } from "../support/guest_protocol.ts";
import { guestTest, NativeInit } from "../support/guest_init.ts";

interface Run {
  readonly out: string;
  readonly err: string;
  readonly kind: number | undefined;
  readonly code: number | undefined;
  readonly error: string;
}

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

async function finish(connection: GuestConnection): Promise<Run> {
  const frames = await connection.receiveAll();
  connection.close();
  const end = joined(frames, "x");
  const view = new DataView(end.buffer);
  return {
    out: text(joined(frames, "o")),
    err: text(joined(frames, "e")),
    kind: end.length === 5 ? end[0] : undefined,
    code: end.length === 5 ? view.getInt32(1, true) : undefined,
    error: text(joined(frames, "X").subarray(4)),
  };
}

async function sh(init: NativeInit, script: string, ...fields: readonly string[]): Promise<GuestConnection> {
  const connection = await GuestConnection.open(init.socket);
  await connection.request("E", "arg=sh", "arg=-c", `arg=${script}`, "env=PATH=/usr/bin:/bin", ...fields);
  return connection;
}

async function run(init: NativeInit, script: string, ...fields: readonly string[]): Promise<Run> {
  return await finish(await sh(init, script, ...fields));
}

const asRoot = Deno.uid() === 0;

guestTest("exec keeps stdout and stderr apart and returns the exit code", async (init) => {
  const result = await run(init, "echo out; echo err >&2; exit 7");
  assert.deepEqual(result, { out: "out\n", err: "err\n", kind: 0, code: 7, error: "" });
});

guestTest(
  "exec gives the command the folder and exactly the environment that was asked for",
  async (init) => {
    const result = await run(
      init,
      "pwd; env | grep -v -e ^PWD -e ^_ -e ^OLDPWD -e ^SHLVL | sort",
      "cwd=/usr",
      "env=A=1 2",
      "env=B=x=y",
    );
    assert.equal(result.out, "/usr\nA=1 2\nB=x=y\nPATH=/usr/bin:/bin\n");
  },
);

guestTest("exec passes stdin to the command up to its end", async (init) => {
  const connection = await sh(init, "wc -c", "stdin=1");
  const chunk = new Uint8Array(32768).fill(65);
  for (let i = 0; i < 64; i++) await connection.send("i", chunk);
  await connection.send("I");
  assert.equal((await finish(connection)).out.trim(), String(64 * 32768));
});

guestTest("exec without stdin gives the command an empty one", async (init) => {
  assert.equal((await run(init, "wc -c")).out.trim(), "0");
});

guestTest("exec returns output of any size complete and in order", async (init) => {
  const result = await run(init, "seq 1 400000");
  const lines = result.out.trimEnd().split("\n");
  assert.equal(lines.length, 400000);
  assert.ok(lines.every((line, index) => line === String(index + 1)));
});

guestTest("exec holds a command back whose output nobody reads, then gives all of it", async (init) => {
  const connection = await sh(init, "head -c 20000000 /dev/zero; echo done >&2");
  await new Promise((resolve) => setTimeout(resolve, 700));
  const frames = await connection.receiveAll();
  connection.close();
  assert.equal(joined(frames, "o").length, 20_000_000);
  assert.equal(text(joined(frames, "e")), "done\n");
});

guestTest("exec reports the signal that killed the command", async (init) => {
  const result = await run(init, "kill -SEGV $$");
  assert.deepEqual([result.kind, result.code], [1, 11]);
});

guestTest("a signal frame reaches the whole process group", async (init) => {
  const connection = await sh(init, "trap 'echo caught; exit 3' INT; sleep 100 & wait");
  await connection.receive();
  await new Promise((resolve) => setTimeout(resolve, 100));
  await connection.send("k", new Uint8Array([2, 0, 0, 0]));
  const result = await finish(connection);
  assert.deepEqual([result.out, result.kind, result.code], ["caught\n", 0, 3]);
});

guestTest("a command past its timeout is ended and reported as timed out", async (init) => {
  const started = performance.now();
  const result = await run(init, "sleep 100", "timeout_ms=200");
  assert.deepEqual([result.kind, result.code], [2, 15]);
  assert.ok(performance.now() - started < 3000);
});

guestTest("a command that ignores TERM at its timeout is killed", async (init) => {
  const result = await run(init, "trap '' TERM; while :; do sleep 0.1; done", "timeout_ms=100");
  assert.deepEqual([result.kind, result.code], [2, 9]);
});

guestTest("a host that closes early kills the command with its children", async (init) => {
  const connection = await sh(init, "sleep 7654321 & echo $!; wait");
  await connection.receive();
  const child = Number(text((await connection.receive())?.payload ?? new Uint8Array()));
  connection.close();
  const alive = async (): Promise<boolean> =>
    (await new Deno.Command("kill", { args: ["-0", String(child)], stderr: "null" }).output()).success;
  assert.ok(child > 0);
  for (let i = 0; i < 100 && await alive(); i++) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(await alive(), false);
});

guestTest("a background process that keeps the streams open does not hold up the end", async (init) => {
  const started = performance.now();
  const result = await run(init, "sleep 3 & echo started");
  assert.deepEqual([result.out, result.kind, result.code], ["started\n", 0, 0]);
  assert.ok(performance.now() - started < 3000);
});

guestTest("exec on a terminal merges the streams, has the size and follows a resize", async (init) => {
  const connection = await sh(
    init,
    "tty >/dev/null && stty size; echo err >&2; read line; stty size; echo got $line",
    "pty=24x80",
  );
  const seen: string[] = [];
  while (!seen.join("").includes("err")) {
    seen.push(text((await connection.receive())?.payload ?? new Uint8Array()));
  }
  await connection.send("w", new Uint8Array([50, 0, 132, 0]));
  await connection.send("i", "typed\n");
  const result = await finish(connection);
  assert.match(seen.join(""), /24 80\r\nerr/);
  assert.match(result.out, /50 132\r\ngot typed/);
  assert.deepEqual([result.err, result.kind, result.code], ["", 0, 0]);
});

guestTest("Ctrl-C typed at the terminal interrupts the foreground command", async (init) => {
  const connection = await sh(init, "echo go; exec sleep 100", "pty=24x80");
  let seen = "";
  while (!seen.includes("go")) seen += text((await connection.receive())?.payload ?? new Uint8Array());
  await new Promise((resolve) => setTimeout(resolve, 100));
  await connection.send("i", "\x03");
  const result = await finish(connection);
  assert.deepEqual([result.kind, result.code], [1, 2]);
});

guestTest("the end of stdin reaches a command on a terminal", async (init) => {
  const connection = await sh(init, "cat; echo end", "pty=24x80");
  await connection.send("I");
  assert.match((await finish(connection)).out, /end/);
});

guestTest(
  "a program that does not exist, a missing folder and an unknown user are errors with their errno",
  async (init) => {
    const connection = await GuestConnection.open(init.socket);
    await connection.request("E", "arg=no-such-program", "env=PATH=/bin");
    const frames = await connection.receiveAll();
    connection.close();
    assert.equal(new DataView(joined(frames, "X").buffer).getInt32(0, true), 2);
    assert.match((await run(init, "true", "cwd=/no/such")).error, /enter the folder/);
    assert.match((await run(init, "true", "user=no-such-user")).error, /find the user/);
  },
);

guestTest("exec as another user has that user's ids and groups", async (init) => {
  if (!asRoot) return;
  const result = await run(init, "id -u; id -g; id -G", "user=nobody");
  assert.equal(result.out, "65534\n65534\n65534\n");
});

guestTest("orphans are reaped", async (init) => {
  await run(init, "(sh -c 'sleep 0.05' &) ; exit 0");
  await new Promise((resolve) => setTimeout(resolve, 700));
  const { stdout } = await new Deno.Command("ps", { args: ["-o", "stat=", "--ppid", String(init.pid)] })
    .output();
  assert.equal(text(stdout).trim(), "");
});

guestTest("broken requests are refused without harm to the server", async (init) => {
  const cases: (string | Uint8Array)[] = [
    new Uint8Array([0x45, 0, 0, 2, 0]),
    new Uint8Array([0x45, 0xff, 0xff, 0xff, 0xff]),
    new Uint8Array([0x45, 3, 0, 0, 0, 0x61, 0x3d, 0x62]),
    new Uint8Array([0x45, 0, 0, 0, 0]),
    new Uint8Array([0x00, 0, 0, 0, 0]),
    new Uint8Array([0x50, 0, 0, 0, 0]),
    new Uint8Array([0x47, 1, 0, 0, 0, 0]),
    new Uint8Array([0x54, 0, 0, 0, 0]),
    new Uint8Array([0x45]),
  ];
  for (const bytes of cases) {
    const connection = await GuestConnection.open(init.socket);
    await connection.sendRaw(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
    if (bytes.length > 4 && bytes[3] === 0) {
      for (const frame of await connection.receiveAll()) assert.equal(frame.type, "X");
    }
    connection.close();
  }
  assert.equal((await run(init, "echo alive")).out, "alive\n");
  for (const field of ["pty=1", "pty=99999x1", "timeout_ms=-1", "timeout_ms=x"]) {
    assert.match((await run(init, "true", field)).error, /bad exec request/);
  }
});

guestTest("random frames never end the server", async (init) => {
  let state = 0x2545f491;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  for (let round = 0; round < 150; round++) {
    const connection = await GuestConnection.open(init.socket);
    const bytes = new Uint8Array(next() % 200).map(() => next() & 0xff);
    if (bytes.length > 5) bytes.set([[0x45, 0x50, 0x47, 0x4e][next() % 4] ?? 0, bytes.length - 5, 0, 0, 0]);
    await connection.sendRaw(bytes).catch(() => {});
    connection.close();
  }
  assert.equal((await run(init, "echo alive")).out, "alive\n");
});

guestTest("ping answers, and power-off ends the server after its answer", async (init) => {
  for (const request of ["N", "O"]) {
    const connection = await GuestConnection.open(init.socket);
    await connection.request(request);
    assert.deepEqual((await connection.receiveAll()).map((frame) => frame.type), ["r"]);
    connection.close();
  }
  assert.equal((await init.status).code, 0);
});
