import assert from "node:assert/strict";
import { DeniedPackets, parseDeniedTargets } from "../../src/network/denied_packets.ts";
import { linkServices, openEgress } from "../../src/network/egress.ts";
import { EgressPolicy } from "../../src/network/egress_policy.ts";
import { describeDecision, type NetworkDecision } from "../../src/network/network_decision.ts";
import { NetworkLog } from "../../src/network/network_log.ts";
import { linkRuleset, type LinkServices } from "../../src/network/ruleset.ts";
import {
  createNetwork,
  namespaceName,
  removeNetwork,
  type SessionNetwork,
} from "../../src/network/session_network.ts";
import { GATEWAY_ONLY, inside, NAMESPACES, plugGuest } from "../support/guest_namespace.ts";
import { clientHello, dnsQuery, printfText, serverName } from "../support/wire_messages.ts";

const { ignore, suffix } = NAMESPACES;

Deno.test("linkServices() opens no more than a policy needs", () => {
  const services = (mode: "none" | "proxy", ...allow: string[]): LinkServices =>
    linkServices(new EgressPolicy({ mode, allow, profiles: [] }));
  assert.deepEqual(services("none", "a.example"), { tcpPorts: [8080], hasDns: false });
  assert.deepEqual(services("proxy"), { tcpPorts: [8080], hasDns: true });
  assert.deepEqual(services("proxy", "a.example:8443"), { tcpPorts: [8080, 3128, 8443], hasDns: true });
});

Deno.test("parseDeniedTargets() reads what nft prints, and nothing out of anything else", () => {
  const element = { elem: { val: { concat: ["8.8.8.8", 17, 53] }, counter: { packets: 2, bytes: 60 } } };
  const ping = { elem: { val: { concat: ["9.9.9.9", "icmp"] }, counter: { packets: 1, bytes: 84 } } };
  const text = JSON.stringify({
    nftables: [
      { table: {} },
      { set: { name: "denied_ports", elem: [element, ping] } },
      { set: { name: "connections", elem: [element] } },
      { set: { name: "overflow", elem: [{ elem: { val: "tcp", counter: { packets: 3 } } }] } },
      { set: { name: "refused", elem: [{ prefix: { addr: "10.0.0.0", len: 8 } }, "1.2.3.4"] } },
      { set: {} },
      { rule: {} },
    ],
  });
  assert.deepEqual(parseDeniedTargets(text), [
    { isAllowed: false, address: "8.8.8.8", protocol: "udp", port: 53, packets: 2 },
    { isAllowed: false, address: "9.9.9.9", protocol: "icmp", port: null, packets: 1 },
    { isAllowed: true, address: "8.8.8.8", protocol: "udp", port: 53, packets: 2 },
    { isAllowed: false, address: "0.0.0.0", protocol: "tcp", port: null, packets: 3 },
  ]);
  assert.deepEqual(parseDeniedTargets("{}"), []);
});

/** A guest's namespace behind a session's network with a policy, in a world of one server. */
async function withEgress(
  allow: readonly string[],
  use: (world: { guest: SessionNetwork; decisions: string[]; close(): Promise<void> }) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir();
  const names = [namespaceName("test6"), namespaceName("test7")] as const;
  await removeNetwork(names[0]);
  const policy = new EgressPolicy({ mode: "proxy", allow, profiles: [] });
  const network = await createNetwork(names[0], 1, linkServices(policy));
  const guest = await plugGuest(network, names[1]);
  const decisions: string[] = [];
  const upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async (): Promise<void> => {
    for await (const connection of upstream) {
      await connection.read(new Uint8Array(4096));
      await connection.write(new TextEncoder().encode("HTTP/1.0 200 OK\r\n\r\nfrom outside\n"));
      connection.close();
    }
  })();
  const outside = {
    resolve: (name: string) =>
      Promise.resolve(name === "rebind.example.org" ? ["127.0.0.1"] : ["93.184.216.34"]),
    connect: () => Deno.connect({ hostname: "127.0.0.1", port: upstream.addr.port }),
    ownAddresses: () => [],
  };
  const log = new NetworkLog({
    path: `${folder}/network.jsonl`,
    policy,
    onFirst: (decision) => decisions.push(describeDecision(decision)),
  });
  const egress = await openEgress({ network, policy, log, folder, outside });
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (isOpen) await egress[Symbol.asyncDispose]();
    isOpen = false;
  };
  try {
    await use({ guest, decisions, close });
  } finally {
    await close();
    for (const name of names) await removeNetwork(name);
    log.close();
    upstream.close();
    await serving;
    await Deno.remove(folder, { recursive: true });
  }
}

/** A query for an A record, and what comes back, in hex. */
const ask = (name: string): string =>
  `printf '${
    printfText(dnsQuery(name, 1))
  }' | socat -t2 - UDP4:172.30.0.1:53 | od -An -v -tx1 | tr -d ' \\n'`;

Deno.test({
  name:
    `a guest resolves and reaches allowed names by HTTP, TLS and CONNECT without knowing of a proxy${suffix}`,
  ignore,
  async fn(): Promise<void> {
    await withEgress(["api.example.com"], async ({ guest, decisions, close }) => {
      assert.match((await inside(guest, ask("api.example.com"))).text, /^12348580.*00000005.*ac1e0001$/);
      const send = (port: number, text: string): string =>
        `printf '${text}' | socat -t3 - TCP4:172.30.0.1:${port}`;
      const http = await inside(guest, send(80, "GET / HTTP/1.1\\r\\nHost: api.example.com\\r\\n\\r\\n"));
      assert.match(http.text, /from outside/);
      const hello = printfText(clientHello([serverName("api.example.com")]));
      assert.match((await inside(guest, send(443, hello))).text, /from outside/);
      const tunnel = await inside(
        guest,
        send(
          3128,
          "CONNECT api.example.com:80 HTTP/1.1\\r\\nHost: api.example.com:80\\r\\n\\r\\nGET / HTTP/1.0\\r\\nHost: api.example.com\\r\\n\\r\\n",
        ),
      );
      assert.match(tunnel.text, /200 Connection established[^]*from outside/);
      await close();
      // Each once, however often it was done.
      assert.deepEqual(decisions, ["allowed: api.example.com:80", "allowed: api.example.com:443"]);
    });
  },
});

Deno.test({
  name: `whatever else a guest tries fails at once and becomes a decision that can be read${suffix}`,
  ignore,
  async fn(): Promise<void> {
    await withEgress(["rebind.example.org"], async ({ guest, decisions, close }) => {
      const start = performance.now();
      assert.match((await inside(guest, ask("denied.example.com"))).text, /^12348583/);
      const refused = [
        "socat - TCP4:8.8.8.8:443,connect-timeout=5 </dev/null",
        "socat - TCP4:169.254.169.254:80,connect-timeout=5 </dev/null",
        "socat - TCP4:172.30.0.1:22,connect-timeout=5 </dev/null",
        "socat - TCP4:192.168.1.1:80,connect-timeout=5 </dev/null",
        "echo x | socat -t5 - UDP4:1.1.1.1:443",
        "echo x | socat -t5 - UDP4:8.8.8.8:53",
        "echo x | socat -t0.1 - IP4-SENDTO:9.9.9.9:47; false",
        "socat - TCP6:[2606:4700:4700::1111]:443,connect-timeout=5 </dev/null",
      ];
      for (const command of refused) assert.notEqual((await inside(guest, command)).code, 0, command);
      const get = "GET / HTTP/1.1\\r\\nHost: rebind.example.org\\r\\n\\r\\n";
      const rebound = await inside(guest, `printf '${get}' | socat -t3 - TCP4:172.30.0.1:80`);
      assert.match(rebound.text, /403 denied[^]*name resolves to 127\.0\.0\.1 \(loopback\)/);
      assert.ok(performance.now() - start < 5000, "refusals are immediate");
      await close();
      const wanted = [
        /^denied: denied\.example\.com \(not in allow-list; allow with --allow denied\.example\.com\)$/,
        /^denied: 8\.8\.8\.8:443 \(TCP to an address/,
        /^denied: 169\.254\.169\.254:80 \(TCP to an address/,
        /^denied: 172\.30\.0\.1:22 \(TCP: nothing of the sandbox is there\)$/,
        /^denied: 192\.168\.1\.1:80 \(TCP to an address/,
        /^denied: 1\.1\.1\.1:443 \(UDP \(QUIC\) does not leave the sandbox\)$/,
        /^denied: 8\.8\.8\.8:53 \(UDP \(DNS\) does not leave the sandbox\)$/,
        /^denied: 9\.9\.9\.9 \(GRE does not leave the sandbox\)$/,
        /^denied: rebind\.example\.org:80 \(name resolves to 127\.0\.0\.1 \(loopback\)\)$/,
      ];
      for (const line of wanted) {
        assert.ok(decisions.some((known) => line.test(known)), `${line}: ${decisions.join("\n")}`);
      }
      assert.equal(decisions.length, wanted.length, decisions.join("\n"));
    });
  },
});

Deno.test({
  name: `IPv6 of a guest's own making is dropped, and is known at the end${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const names = [namespaceName("test10"), namespaceName("test11")] as const;
    await removeNetwork(names[0]);
    const network = await createNetwork(names[0], 1, GATEWAY_ONLY);
    const guest = await plugGuest(network, names[1]);
    // The filter was bound to the device that the guest's cable has replaced.
    await inside(network, `nft -f - <<'END'\nflush ruleset\n${linkRuleset(GATEWAY_ONLY)}END`);
    const told: NetworkDecision[] = [];
    try {
      const watch = new DeniedPackets(network, "none", (decision) => told.push(decision));
      const { code } = await inside(
        guest,
        `echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
         ip -6 addr add fd00::2/64 dev eth0 nodad; ip -6 route add default via fd00::1
         ip -6 neigh add fd00::1 lladdr $(cat /sys/class/net/eth0/address) dev eth0
         echo x | socat -t0.2 - UDP6-SENDTO:[2606:4700:4700::1111]:53
         socat - TCP6:[2001:db8::7]:443,connect-timeout=1 </dev/null`,
      );
      assert.notEqual(code, 0);
      await watch[Symbol.asyncDispose]();
      const lines = told.map(describeDecision);
      // What the guest's kernel asks of all its neighbours is no try.
      assert.ok(!lines.some((line) => line.includes("ff02:")), lines.join("\n"));
      for (const address of ["2606:4700:4700::1111", "2001:db8::7"]) {
        assert.ok(lines.includes(`denied: ${address} (IPv6 does not leave the sandbox)`), lines.join("\n"));
      }
    } finally {
      for (const name of names) await removeNetwork(name);
    }
  },
});

Deno.test({
  name: `a guest that tries everything is refused everything, and fills neither kernel nor journal${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const folder = await Deno.makeTempDir();
    const names = [namespaceName("test12"), namespaceName("test13")] as const;
    await removeNetwork(names[0]);
    const policy = new EgressPolicy({ mode: "proxy", allow: [], profiles: [] });
    const network = await createNetwork(names[0], 1, linkServices(policy));
    const guest = await plugGuest(network, names[1]);
    const told: string[] = [];
    const path = `${folder}/network.jsonl`;
    const log = new NetworkLog({ path, policy, onFirst: ({ host }) => told.push(host) });
    try {
      const egress = await openEgress({ network, policy, log, folder });
      const names300 = Array.from(
        { length: 300 },
        (_, index) => printfText(dnsQuery(`n${index}.example`, 1)),
      );
      // bash's own sockets: a program for each of thousands would take minutes.
      const flood = `for port in $(seq 1 3000); do printf x > /dev/udp/9.9.9.9/$port; done 2>/dev/null
        for query in ${
        names300.map((text) => `'${text}'`).join(" ")
      }; do printf "$query" > /dev/udp/172.30.0.1/53; done 2>/dev/null`;
      await Deno.writeTextFile(`${folder}/flood.sh`, flood);
      await inside(guest, `bash ${folder}/flood.sh; sleep 1`);
      await egress[Symbol.asyncDispose]();
      const inKernel = await inside(network, "nft -j list set inet paddock denied_ports");
      const known = parseDeniedTargets(inKernel.text).length;
      assert.ok(known >= 900 && known <= 1024, `${known} targets remembered`);
      const summary = log.close();
      const lines = (await Deno.readTextFile(path)).trimEnd().split("\n");
      assert.ok(lines.length <= 1 + 1000 + 1000 + 1, `${lines.length} lines`);
      assert.ok(told.length <= 200, `${told.length} told`);
      assert.ok(told.some((host) => host === "9.9.9.9"));
      assert.ok(summary.denied >= 1000 && summary.denials.length <= 50);
      assert.equal(summary.journal.lineCount, lines.length);
    } finally {
      for (const name of names) await removeNetwork(name);
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: `DeniedPackets tells of new packets only, while a session runs and at its end${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const names = [namespaceName("test8"), namespaceName("test9")] as const;
    await removeNetwork(names[0]);
    const network = await createNetwork(names[0], 1, GATEWAY_ONLY);
    const guest = await plugGuest(network, names[1]);
    const told: [NetworkDecision, number][] = [];
    try {
      const watch = new DeniedPackets(network, "none", (decision, count) => told.push([decision, count]));
      const knock = "socat - TCP4:8.8.8.8:443,connect-timeout=5 </dev/null";
      await inside(guest, knock);
      await watch.look();
      await watch.look();
      assert.deepEqual(told.map(([{ host }, count]) => [host, count]), [["8.8.8.8", 1]]);
      await inside(guest, `${knock}; ${knock}`);
      await watch[Symbol.asyncDispose]();
      assert.deepEqual(told.map(([, count]) => count), [1, 2]);
      const orphan = new DeniedPackets(network, "none", () => {});
      await removeNetwork(names[0]);
      await orphan[Symbol.asyncDispose]();
    } finally {
      for (const name of names) await removeNetwork(name);
    }
  },
});
