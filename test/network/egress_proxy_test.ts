import assert from "node:assert/strict";
import { EgressPolicy, type ProjectEgress } from "../../src/network/egress_policy.ts";
import { EgressProxy, type ProxyLimits } from "../../src/network/egress_proxy.ts";
import { describeDecision, type NetworkDecision } from "../../src/network/network_decision.ts";
import type { Outside } from "../../src/network/outside.ts";
import { clientHello, serverName } from "../support/wire_messages.ts";

const PUBLIC = "93.184.216.34";
const TLS_ACCESS_DENIED = [21, 3, 3, 0, 2, 2, 49];
const text = (bytes: Uint8Array): string => new TextDecoder("latin1").decode(bytes);
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A proxy in a world of one server. */
interface World extends AsyncDisposable {
  /** decisions so far */
  readonly decisions: NetworkDecision[];
  /** what each connection to the server brought */
  readonly arrived: string[];
  /** addresses and ports that were connected to */
  readonly dialled: string[];
  /** Connects to `port` of a name, or to the proxy; sends, and gives all that comes back. */
  exchange(port: number | undefined, ...sent: Uint8Array[]): Promise<Uint8Array>;
  /** a connection that stays */
  connect(port: number | undefined): Promise<Deno.TcpConn>;
  /** settles when the proxy is done with all connections */
  settled(): Promise<void>;
}

interface WorldOptions {
  readonly allow: readonly string[];
  readonly resolve?: (name: string) => readonly string[];
  readonly limits?: Partial<ProxyLimits>;
  readonly project?: ProjectEgress;
  /** what the server says once something came (default "pong") */
  readonly answer?: Uint8Array;
}

async function readAll(connection: Deno.Conn): Promise<Uint8Array> {
  const chunks: number[] = [];
  const chunk = new Uint8Array(65536);
  for (;;) {
    const count = await connection.read(chunk).catch(() => null);
    if (count === null) return Uint8Array.from(chunks);
    for (const byte of chunk.subarray(0, count)) chunks.push(byte);
  }
}

function openWorld(options: WorldOptions): World {
  const { allow, answer = bytes("pong"), limits = {}, project } = options;
  const decisions: NetworkDecision[] = [];
  const arrived: string[] = [];
  const dialled: string[] = [];
  const upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const front = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving: Promise<void>[] = [];
  const serveUpstream = async (connection: Deno.Conn): Promise<void> => {
    const index = arrived.push("") - 1;
    const chunk = new Uint8Array(65536);
    for (let isFirst = true;; isFirst = false) {
      const count = await connection.read(chunk).catch(() => null);
      if (count === null) break;
      arrived[index] += text(chunk.subarray(0, count));
      if (isFirst) await connection.write(answer).catch(() => 0);
      if (isFirst && answer.length > 0) await connection.closeWrite().catch(() => {});
    }
    connection.close();
  };
  serving.push((async (): Promise<void> => {
    for await (const connection of upstream) serving.push(serveUpstream(connection));
  })());
  const outside: Outside = {
    resolve: (name) => Promise.resolve((options.resolve ?? ((): string[] => [PUBLIC]))(name)),
    connect: (address, port) => {
      dialled.push(`${address}:${port}`);
      return Deno.connect({ hostname: "127.0.0.1", port: upstream.addr.port });
    },
    ownAddresses: () => ["127.0.0.1", "198.51.100.7"],
  };
  const policy = new EgressPolicy({ mode: "proxy", allow, profiles: [], project });
  const proxy = new EgressProxy({
    policy,
    outside,
    limits,
    onDecision: (decision) => decisions.push(decision),
  });
  const connect = async (port: number | undefined): Promise<Deno.TcpConn> => {
    const [client, accepted] = await Promise.all([
      Deno.connect({ hostname: "127.0.0.1", port: front.addr.port }),
      front.accept(),
    ]);
    serving.push(proxy.serve(accepted, port));
    return client;
  };
  const settled = async (): Promise<void> => {
    for (const done of serving.slice(1)) await done;
  };
  return {
    decisions,
    arrived,
    dialled,
    connect,
    settled,
    async exchange(port, ...sent): Promise<Uint8Array> {
      using client = await connect(port);
      for (const part of sent) {
        await client.write(part);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return await readAll(client);
    },
    async [Symbol.asyncDispose](): Promise<void> {
      proxy.close();
      front.close();
      await settled();
      upstream.close();
      await Promise.all(serving);
    },
  };
}

const request = (...lines: string[]): Uint8Array => bytes(`${lines.join("\r\n")}\r\n\r\n`);
const lines = (world: World): string[] => world.decisions.map(describeDecision);

Deno.test("plain HTTP goes to the server that Host names, and is a decision with its bytes", async () => {
  await using world = openWorld({ allow: ["api.example.com"], answer: bytes("HTTP/1.1 200 OK\r\n\r\nhi") });
  const answer = await world.exchange(80, request("GET /x HTTP/1.1", "Host: api.example.com"));
  await world.settled();
  assert.equal(text(answer), "HTTP/1.1 200 OK\r\n\r\nhi");
  assert.deepEqual(world.arrived, ["GET /x HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n"]);
  assert.deepEqual(world.dialled, [`${PUBLIC}:80`]);
  const { durationMs, ...decision } = world.decisions[0] ?? assert.fail();
  assert.ok((durationMs ?? -1) >= 0);
  assert.deepEqual(decision, {
    action: "allowed",
    protocol: "http",
    host: "api.example.com",
    port: 80,
    bytesToHost: 61,
    bytesToGuest: 21,
  });
});

Deno.test("a second request in a connection never reaches a server, whatever its Host", async () => {
  await using world = openWorld({ allow: ["a.example.com"] });
  const first = request("POST / HTTP/1.1", "Host: a.example.com", "Content-Length: 3");
  const second = request("GET /second HTTP/1.1", "Host: evil.example.com");
  await world.exchange(80, Uint8Array.from([...first, ...bytes("abc"), ...second]), second);
  await world.settled();
  assert.equal(world.arrived.length, 1);
  assert.match(world.arrived[0] ?? "", /\r\n\r\nabc$/);
});

Deno.test("a body that comes in pieces arrives whole", async () => {
  await using world = openWorld({ allow: ["a.example.com"], answer: new Uint8Array() });
  using client = await world.connect(80);
  await client.write(request("POST / HTTP/1.1", "Host: a.example.com", "Content-Length: 6"));
  for (const part of ["ab", "cd", "ef", "GET / HTTP/1.1"]) {
    await client.write(bytes(part));
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.match(world.arrived[0] ?? "", /\r\n\r\nabcdef$/);
});

Deno.test("plain HTTP to what is not allowed gets a readable answer, and no server is asked", async () => {
  await using world = openWorld({ allow: ["a.example.com", "b.example.com:81"] });
  const cases: [number, string, string][] = [
    [
      80,
      "evil.example.com",
      "denied: evil.example.com:80 (not in allow-list; allow with --allow evil.example.com)",
    ],
    [80, "169.254.169.254", "denied: 169.254.169.254:80 (addresses cannot be reached, only allowed names)"],
    [80, "0x7f.1", "denied: 0x7f.1:80 (addresses cannot be reached, only allowed names)"],
    [80, "[::1]", "denied: [::1]:80 (addresses cannot be reached, only allowed names)"],
    [80, "localhost", "denied: localhost:80 (not a public host name)"],
    [80, "a.example.com:81", "denied: a.example.com:80 (request names port 81)"],
    [80, "b.example.com", "denied: b.example.com:80 (not in allow-list; allow with --allow b.example.com)"],
  ];
  for (const [port, host, line] of cases) {
    const answer = text(await world.exchange(port, request("GET / HTTP/1.1", `Host: ${host}`)));
    assert.match(answer, /^HTTP\/1\.1 403 denied\r\n/);
    assert.ok(answer.endsWith(`Paddock: ${line}\n`), answer);
    assert.equal(lines(world).at(-1), line);
  }
  const broken = text(
    await world.exchange(80, request("GET / HTTP/1.1", "Host: a.example.com", "Host: b.example.com")),
  );
  assert.match(broken, /^HTTP\/1\.1 400 denied/);
  assert.deepEqual([world.dialled, world.arrived], [[], []]);
});

Deno.test("TLS goes to the server that the ClientHello names, byte by byte as it came", async () => {
  await using world = openWorld({ allow: ["*.example.com"] });
  const hello = clientHello([serverName("Api.Example.com")]);
  const answer = await world.exchange(443, hello.subarray(0, 20), hello.subarray(20));
  await world.settled();
  assert.equal(text(answer), "pong");
  assert.deepEqual(world.arrived, [text(hello)]);
  assert.deepEqual(lines(world), ["allowed: Api.Example.com:443"]);
});

Deno.test("TLS without an allowed name in the clear gets an alert, and no server is asked", async () => {
  await using world = openWorld({ allow: ["a.example.com"] });
  const ech = { type: 0xfe0d, content: [0, 0, 1, 0, 1, 5, 0, 0, 0, 0] };
  const cases: [Uint8Array, RegExp][] = [
    [
      clientHello([serverName("evil.example.com")]),
      /^denied: evil\.example\.com:443 \(not in allow-list; allow with/,
    ],
    [clientHello([]), /^denied: unnamed:443 \(TLS without a server name\)/],
    [
      clientHello([serverName("93.184.216.34")]),
      /^denied: 93\.184\.216\.34:443 \(addresses cannot be reached/,
    ],
    [clientHello([serverName("a.example.com"), ech]), /^denied: a\.example\.com:443 \(encrypted ClientHello/],
    [
      clientHello([serverName("a.example.com"), serverName("b.example.com")]),
      /cannot be read: an extension is there twice/,
    ],
    [clientHello([serverName("a.example.com\0.evil.example")]), /\\000.*not a public host name/],
    [Uint8Array.of(22, 3, 1, 0, 4, 2, 0, 0, 0), /cannot be read: it is not a ClientHello/],
  ];
  for (const [hello, line] of cases) {
    assert.deepEqual([...await world.exchange(443, hello)], TLS_ACCESS_DENIED);
    assert.match(lines(world).at(-1) ?? "", line);
  }
  assert.deepEqual(world.dialled, []);
});

Deno.test("CONNECT is carried when its name is allowed, and TLS inside names the same", async () => {
  await using world = openWorld({ allow: ["a.example.com", "b.example.com", "raw.example.com:22"] });
  const connect = (target: string): Uint8Array => request(`CONNECT ${target} HTTP/1.1`, `Host: ${target}`);
  const good = await world.exchange(
    undefined,
    connect("a.example.com:443"),
    clientHello([serverName("a.example.com")]),
  );
  assert.equal(text(good), "HTTP/1.1 200 Connection established\r\n\r\npong");
  const other = await world.exchange(
    undefined,
    connect("a.example.com:443"),
    clientHello([serverName("b.example.com")]),
  );
  assert.deepEqual([...other.slice(-7)], TLS_ACCESS_DENIED);
  assert.equal(
    lines(world).at(-1),
    "denied: b.example.com:443 (TLS server name differs from CONNECT a.example.com)",
  );
  const noTls = await world.exchange(undefined, connect("a.example.com:443"), bytes("SSH-2.0-x\r\n"));
  assert.deepEqual([...noTls.slice(-7)], TLS_ACCESS_DENIED);
  const raw = await world.exchange(undefined, connect("raw.example.com:22"), bytes("SSH-2.0-x\r\n"));
  assert.match(text(raw), /pong$/);
  for (
    const target of [
      "evil.example.com:443",
      "a.example.com:22",
      "[::1]:443",
      "127.0.0.1:80",
      "a.example.com.:25",
    ]
  ) {
    assert.match(text(await world.exchange(undefined, connect(target))), /^HTTP\/1\.1 403 denied/, target);
  }
  await world.settled();
  assert.deepEqual(world.arrived.filter((value) => value !== ""), [
    text(clientHello([serverName("a.example.com")])),
    "SSH-2.0-x\r\n",
  ]);
});

Deno.test("CONNECT to port 80 carries one request, for the same host", async () => {
  await using world = openWorld({ allow: ["a.example.com", "b.example.com"] });
  const connect = request("CONNECT a.example.com:80 HTTP/1.1", "Host: a.example.com:80");
  const good = await world.exchange(undefined, connect, request("GET /x HTTP/1.1", "Host: a.example.com"));
  assert.match(text(good), /pong$/);
  const other = await world.exchange(undefined, connect, request("GET /x HTTP/1.1", "Host: b.example.com"));
  assert.match(text(other), /403 denied[^]*b\.example\.com:80 \(Host differs from CONNECT a\.example\.com\)/);
  await world.settled();
  assert.deepEqual(world.arrived.filter((value) => value !== ""), [
    "GET /x HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n",
  ]);
});

Deno.test("the proxy takes whole URLs of plain HTTP, and no others", async () => {
  await using world = openWorld({ allow: ["a.example.com"] });
  await world.exchange(undefined, request("GET http://a.example.com/x HTTP/1.1", "Host: a.example.com"));
  await world.settled();
  assert.match(world.arrived[0] ?? "", /^GET \/x HTTP\/1\.1\r\nHost: a\.example\.com\r\n/);
  const origin = text(await world.exchange(undefined, request("GET / HTTP/1.1", "Host: a.example.com")));
  assert.match(origin, /^HTTP\/1\.1 400 denied[^]*whole URL/);
  const tunnel = text(
    await world.exchange(80, request("CONNECT a.example.com:80 HTTP/1.1", "Host: a.example.com")),
  );
  assert.match(tunnel, /^HTTP\/1\.1 400 denied/);
});

Deno.test("a name with any address inside is refused: nothing is connected to", async () => {
  const inside = [
    "127.0.0.1",
    "10.1.2.3",
    "169.254.169.254",
    "::1",
    "::ffff:10.0.0.1",
    "fd00::1",
    "198.51.100.7",
  ];
  for (const address of inside) {
    await using world = openWorld({ allow: ["rebind.example.com"], resolve: () => [PUBLIC, address] });
    const answer = await world.exchange(80, request("GET / HTTP/1.1", "Host: rebind.example.com"));
    assert.match(text(answer), /403 denied/);
    assert.ok(
      lines(world)[0]?.startsWith(`denied: rebind.example.com:80 (name resolves to ${address} (`),
      address,
    );
    assert.deepEqual(world.dialled, []);
  }
});

Deno.test("a name that resolves differently each time is connected to where it was checked", async () => {
  let count = 0;
  const resolve = (): string[] => count++ % 2 === 0 ? [PUBLIC] : ["127.0.0.1"];
  await using world = openWorld({ allow: ["rebind.example.com"], resolve });
  for (let index = 0; index < 4; index++) {
    await world.exchange(443, clientHello([serverName("rebind.example.com")]));
  }
  assert.deepEqual(world.dialled, [`${PUBLIC}:443`, `${PUBLIC}:443`]);
  assert.equal(count, 4, "one question for each connection");
});

Deno.test("a name that does not resolve is a failure, not a denial", async () => {
  await using world = openWorld({ allow: ["gone.example.com"], resolve: () => [] });
  const answer = await world.exchange(80, request("GET / HTTP/1.1", "Host: gone.example.com"));
  assert.match(text(answer), /^HTTP\/1\.1 502 failed/);
  assert.deepEqual(lines(world), ["failed: gone.example.com:80 (name does not resolve on the host)"]);
});

Deno.test("a connection that is silent, too large or one too many is cut, and that is said", async () => {
  const limits = { idleTimeoutMs: 50, maxBytes: 1000, connections: 2 };
  await using world = openWorld({ allow: ["a.example.com"], answer: new Uint8Array(), limits });
  const hello = clientHello([serverName("a.example.com")]);
  await world.exchange(443, hello);
  assert.equal(lines(world).at(-1), "allowed: a.example.com:443 (cut after a long silence)");
  using first = await world.connect(443);
  using second = await world.connect(443);
  assert.equal((await world.exchange(443)).length, 0);
  assert.match(lines(world).at(-1) ?? "", /too many connections at once/);
  first.close();
  second.close();
  await world.settled();
  await using large = openWorld({ allow: ["a.example.com"], answer: new Uint8Array(5000), limits });
  assert.ok((await large.exchange(443, hello)).length <= 1000);
  await large.settled();
  assert.equal(lines(large).at(-1), "allowed: a.example.com:443 (cut: too many bytes)");
});

Deno.test("a guest that goes away in the middle of its first words costs nothing", async () => {
  await using world = openWorld({ allow: ["a.example.com"] });
  for (const sent of ["", "GET / HT", "\x16\x03\x01"]) {
    using client = await world.connect(443);
    await client.write(bytes(sent));
  }
  await world.settled();
  assert.deepEqual(world.dialled, []);
});
