import assert from "node:assert/strict";
import { type Frame, GuestConnection, joined } from "../support/guest_protocol.ts";
import { guestTest, NativeInit } from "../support/guest_init.ts";

const asRoot = Deno.uid() === 0;

async function bash(script: string, cwd: string): Promise<string> {
  const output = await new Deno.Command("bash", {
    args: ["-ec", script],
    cwd,
    clearEnv: true,
    env: { PATH: "/usr/bin:/bin" },
  }).output();
  assert.equal(output.code, 0, new TextDecoder().decode(output.stderr));
  return new TextDecoder().decode(output.stdout);
}

/** Sends an archive; returns the error's text, or "" when it was unpacked. */
async function put(
  init: NativeInit,
  target: string,
  archive: Uint8Array,
  ...fields: readonly string[]
): Promise<string> {
  const connection = await GuestConnection.open(init.socket);
  await connection.request("P", `path=${target}`, ...fields);
  for (let at = 0; at < archive.length; at += 30000) {
    await connection.send("d", archive.subarray(at, at + 30000));
  }
  await connection.send("D");
  const [answer] = await connection.receiveAll();
  connection.close();
  assert.ok(answer !== undefined);
  if (answer.type === "r") return "";
  return new TextDecoder().decode(answer.payload.subarray(4));
}

async function get(init: NativeInit, path: string, ...fields: readonly string[]): Promise<Frame[]> {
  const connection = await GuestConnection.open(init.socket);
  await connection.request("G", `path=${path}`, ...fields);
  const frames = await connection.receiveAll();
  connection.close();
  return frames;
}

interface Entry {
  readonly name: string;
  readonly type?: string;
  readonly link?: string;
  readonly content?: string;
  readonly mode?: number;
}

/** An archive made by hand, so that it can be hostile. */
function archive(...entries: readonly Entry[]): Uint8Array<ArrayBuffer> {
  const blocks: number[] = [];
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  for (const entry of entries) {
    const header = new Uint8Array(512);
    const content = encode(entry.content ?? "");
    const put = (at: number, text: string): void => header.set(encode(text), at);
    put(0, entry.name);
    put(100, (entry.mode ?? 0o644).toString(8).padStart(7, "0"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, content.length.toString(8).padStart(11, "0"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, entry.type ?? "0");
    put(157, entry.link ?? "");
    put(257, "ustar\x0000");
    put(148, header.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0") + "\0 ");
    blocks.push(...header, ...content, ...new Uint8Array((512 - content.length % 512) % 512));
  }
  return new Uint8Array([...blocks, ...new Uint8Array(1024)]);
}

const MAKE_TREE = `
mkdir -p tree/sub/empty "tree/a b"; cd tree
printf hello > plain; printf '#!/bin/sh\\n' > run; chmod 755 run; : > empty
head -c 3000000 /dev/urandom > big; ln -s plain link; ln -s /no/such/target dangling; ln plain hard
long=$(printf 'n%.0s' $(seq 120)); mkdir -p $long/$long/$long; printf deep > $long/$long/$long/file
ln -s $long/$long/$long/file long-link; printf 'ünï' > 'ünï code'; chmod 700 sub; chmod 4711 empty
touch -d @1234567890 plain; touch -h -d @987654321 link; touch -d @1000000000 sub
printf x > "new
line"; mkdir ro; printf in > ro/file; chmod 555 ro`;

/** What of a tree must survive: names, kinds, modes, owners, times, link targets, contents. */
const DESCRIBE =
  "find . -mindepth 1 -printf '%P %y %m %U %G %Ts %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum";

for (const format of ["gnu", "pax", "ustar"]) {
  guestTest(`a tree packed by GNU tar as ${format} comes out whole and goes back whole`, async (init) => {
    // ustar itself cannot hold the long names
    const trim = format === "ustar" ? "rm -rf tree/nnn* tree/long-link;" : "";
    await bash(`${MAKE_TREE}; cd ..; ${trim} tar --format=${format} -C tree -cf in.tar .`, init.folder);
    const packed = await Deno.readFile(`${init.folder}/in.tar`);
    assert.equal(await put(init, `${init.folder}/made/target`, packed), "");
    const source = await bash(DESCRIBE, `${init.folder}/tree`);
    assert.equal(await bash(DESCRIBE, `${init.folder}/made/target`), source);
    const frames = await get(init, `${init.folder}/made/target`);
    assert.equal(frames.at(-1)?.type, "D");
    await Deno.writeFile(`${init.folder}/out.tar`, joined(frames, "d"));
    await bash("mkdir back; tar -xpf out.tar -C back", init.folder);
    assert.equal(await bash(DESCRIBE, `${init.folder}/back`), source);
    assert.equal(await bash("stat -c %h back/plain back/hard", init.folder), "2\n2\n");
  });
}

guestTest("put gives every file the owner that was asked for", async (init) => {
  if (!asRoot) return;
  const files = archive({ name: "d", type: "5", mode: 0o755 }, { name: "d/f", content: "x" }, {
    name: "d/l",
    type: "2",
    link: "f",
  });
  assert.equal(await put(init, `${init.folder}/t`, files, "uid=1000", "gid=1001"), "");
  assert.equal(
    await bash("stat -c '%n %u %g' t/d t/d/f t/d/l", init.folder),
    "t/d 1000 1001\nt/d/f 1000 1001\nt/d/l 1000 1001\n",
  );
});

guestTest("put keeps the archive's owners where none is asked for", async (init) => {
  if (!asRoot) return;
  await bash("mkdir s; : > s/f; chown 123:3000000 s/f; tar --format=pax -C s -cf in.tar .", init.folder);
  assert.equal(await put(init, `${init.folder}/t`, await Deno.readFile(`${init.folder}/in.tar`)), "");
  assert.equal(await bash("stat -c '%u %g' t/f", init.folder), "123 3000000\n");
});

guestTest("put replaces what is there: files, links and empty folders", async (init) => {
  await bash("mkdir -p t/folder; echo old > t/file; ln -s file t/link; echo kept > t/kept", init.folder);
  const files = archive({ name: "file", content: "new" }, { name: "link", content: "file now" }, {
    name: "folder",
    content: "file too",
  });
  assert.equal(await put(init, `${init.folder}/t`, files), "");
  assert.equal(await bash("cat t/file t/link t/folder t/kept", init.folder), "newfile nowfile tookept\n");
});

const ESCAPES: readonly (readonly [string, readonly Entry[]])[] = [
  ["a name with ..", [{ name: "../escaped", content: "x" }]],
  ["a name with .. in the middle", [{ name: "a/../../escaped", content: "x" }]],
  ["a folder named ..", [{ name: "..", type: "5" }]],
  ["a link out, then a file through it", [{ name: "l", type: "2", link: ".." }, {
    name: "l/escaped",
    content: "x",
  }]],
  ["an absolute link, then a folder through it", [{ name: "l", type: "2", link: "OUTSIDE" }, {
    name: "l/escaped",
    type: "5",
  }]],
  ["a link, then a link through it", [{ name: "l", type: "2", link: ".." }, {
    name: "l/escaped",
    type: "2",
    link: "x",
  }]],
  ["a hard link to a file outside", [{ name: "escaped", type: "1", link: "../secret" }]],
  ["a hard link through a link", [{ name: "l", type: "2", link: ".." }, {
    name: "escaped",
    type: "1",
    link: "l/secret",
  }]],
];

for (const [name, entries] of ESCAPES) {
  guestTest(`put refuses ${name}`, async (init) => {
    await bash("mkdir outer; echo secret > outer/secret; chmod 600 outer/secret", init.folder);
    const files = archive(
      ...entries.map((entry) =>
        entry.link === "OUTSIDE" ? { ...entry, link: `${init.folder}/outer` } : entry
      ),
    );
    assert.notEqual(await put(init, `${init.folder}/outer/target`, files), "");
    assert.equal(
      await bash("ls -A outer; ls -A outer/target | grep escaped || true", init.folder),
      "secret\ntarget\n",
    );
  });
}

guestTest("an absolute name lands below the target", async (init) => {
  assert.equal(
    await put(init, `${init.folder}/t`, archive({ name: "/etc/escaped-paddock", content: "x" })),
    "",
  );
  assert.equal(await bash("cat t/etc/escaped-paddock; test ! -e /etc/escaped-paddock", init.folder), "x");
});

guestTest("writing over a link replaces the link and not what it points to", async (init) => {
  await bash("mkdir t; echo secret > secret; ln -s ../secret t/l", init.folder);
  assert.equal(await put(init, `${init.folder}/t`, archive({ name: "l", content: "x" })), "");
  assert.equal(await bash("cat secret; cat t/l", init.folder), "secret\nx");
});

guestTest("put refuses device nodes, FIFOs and broken archives, naming what it refuses", async (init) => {
  for (const type of ["3", "4", "6"]) {
    assert.match(await put(init, `${init.folder}/t`, archive({ name: "node", type })), /not unpacked: node/);
  }
  const good = archive({ name: "f", content: "x".repeat(600) });
  assert.match(await put(init, `${init.folder}/t`, good.slice(0, 700)), /cut short/);
  assert.match(
    await put(init, `${init.folder}/t`, good.map((byte, at) => at === 3 ? 1 : byte)),
    /bad header/,
  );
  assert.match(
    await put(init, `${init.folder}/t`, archive({ name: "x", type: "x", content: "99 path=a\n" })),
    /bad pax header/,
  );
  assert.equal(await bash("find t -mindepth 1 -name node", init.folder), "");
});

guestTest("put reports a full disk and the connection stays in step", async (init) => {
  if (!asRoot) return;
  await bash("mkdir small; mount -t tmpfs -o size=64k tmpfs small", init.folder);
  try {
    assert.match(
      await put(init, `${init.folder}/small`, archive({ name: "f", content: "x".repeat(100_000) })),
      /No space left/,
    );
  } finally {
    // Whoever filled it may be about to end
    await bash("for try in 1 2 3 4 5 6 7 8 9; do umount small && break; sleep 0.1; done", init.folder);
  }
});

guestTest("mutated archives never end the server or leave the target", async (init) => {
  const good = archive({ name: "d", type: "5" }, { name: "d/f", content: "hello" }, {
    name: "x",
    type: "x",
    content: "12 path=abc\n",
  }, { name: "l", type: "2", link: "d" });
  let state = 0x1234567;
  const next = (): number => (state = Math.imul(state, 1664525) + 1013904223 >>> 0) >>> 8;
  await bash("mkdir outer", init.folder);
  for (let round = 0; round < 200; round++) {
    const bytes = good.slice(0, good.length - (next() % 3) * (next() % 600));
    for (let i = next() % 6; i >= 0; i--) bytes[next() % bytes.length] = next() & 0xff;
    await put(init, `${init.folder}/outer/target`, bytes);
  }
  assert.equal(await bash("ls -A outer", init.folder), "target\n");
});

guestTest("get sends one file by its own name", async (init) => {
  await Deno.writeTextFile(`${init.folder}/one`, "content");
  const frames = await get(init, `${init.folder}/one`);
  await Deno.writeFile(`${init.folder}/out.tar`, joined(frames, "d"));
  assert.equal(await bash("tar -tf out.tar; tar -xOf out.tar one", init.folder), "one\ncontent");
});

guestTest("get leaves out sockets and FIFOs, does not follow links, and stops at max_bytes", async (init) => {
  await bash("mkdir t; mkfifo t/fifo; ln -s /etc t/etc; echo x > t/x", init.folder);
  const frames = await get(init, `${init.folder}/t`);
  await Deno.writeFile(`${init.folder}/out.tar`, joined(frames, "d"));
  assert.equal(await bash("tar -tf out.tar | sort", init.folder), "etc\nx\n");
  const limited = await get(init, `${init.folder}/t`, "max_bytes=1000");
  assert.equal(limited.at(-1)?.type, "X");
});

guestTest("get of what does not exist is an error with its errno", async (init) => {
  const [frame] = await get(init, `${init.folder}/no-such`);
  assert.equal(frame?.type, "X");
  assert.equal(frame?.payload[0], 2);
});

guestTest("get sends a folder of many files and a deep one", async (init) => {
  await bash(
    "mkdir -p t/many; cd t/many; for i in $(seq 3000); do : > f$i; done; cd ..; p=deep; for i in $(seq 300); do p=$p/d; done; mkdir -p $p; echo x > $p/f",
    init.folder,
  );
  const frames = await get(init, `${init.folder}/t`);
  assert.equal(frames.at(-1)?.type, "D");
  await Deno.writeFile(`${init.folder}/out.tar`, joined(frames, "d"));
  assert.equal((await bash("tar -tf out.tar | wc -l", init.folder)).trim(), "3303");
});
