import assert from "node:assert/strict";
import { linkRuleset } from "../../src/network/ruleset.ts";
import {
  createNetwork,
  namespaceName,
  removeNetwork,
  startRelay,
} from "../../src/network/session_network.ts";
import { GATEWAY_ONLY, inside, NAMESPACES, plugGuest } from "../support/guest_namespace.ts";

const { ignore, suffix } = NAMESPACES;

Deno.test({
  name: `createNetwork() makes a namespace with a TAP device, a filter and no route out${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const name = namespaceName("test1");
    await removeNetwork(name);
    const network = await createNetwork(name, 1, GATEWAY_ONLY);
    try {
      assert.match((await inside(network, "ip -o addr show dev tap0")).text, /172\.30\.0\.1\/30/);
      assert.match(
        (await inside(network, "nft list table inet paddock")).text,
        /tcp dport (8080|\{ 8080 \}) accept/,
      );
      assert.equal((await inside(network, "ip route show default")).text, "");
      assert.equal((await inside(network, "ip -o link")).text.trim().split("\n").length, 2);
      assert.doesNotMatch((await inside(network, "ip -d link show tap0")).text, /multi_queue/);
    } finally {
      await removeNetwork(name);
    }
    assert.throws(() => Deno.statSync(`/run/netns/${name}`), Deno.errors.NotFound);
  },
});

Deno.test({
  name: `createNetwork() makes a TAP device with a queue for each of several vCPUs${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const name = namespaceName("test5");
    await removeNetwork(name);
    const network = await createNetwork(name, 2, GATEWAY_ONLY);
    try {
      assert.match((await inside(network, "ip -d link show tap0")).text, /multi_queue/);
    } finally {
      await removeNetwork(name);
    }
  },
});

Deno.test({
  name: `a guest reaches the gateway through startRelay(), and nothing else, and is refused at once${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const folder = await Deno.makeTempDir();
    const names = [namespaceName("test2"), namespaceName("test3")] as const;
    await removeNetwork(names[0]);
    const network = await createNetwork(names[0], 1, GATEWAY_ONLY);
    const guest = await plugGuest(network, names[1]);
    const socketPath = `${folder}/gw.sock`;
    const server = Deno.serve(
      { path: socketPath, onListen: () => {} },
      () => new Response("from the gateway"),
    );
    const relay = await startRelay(network, { port: 8080, protocol: "tcp", socketPath });
    try {
      const answer = await inside(
        guest,
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | socat -t2 - TCP4:172.30.0.1:8080",
      );
      assert.match(answer.text, /from the gateway/);

      const start = performance.now();
      const ssh = await inside(guest, "socat - TCP4:172.30.0.1:22,connect-timeout=5 </dev/null");
      const dns = await inside(guest, "echo x | socat -t3 - UDP4:172.30.0.1:53");
      assert.notEqual(ssh.code, 0);
      assert.notEqual(dns.code, 0);
      assert.ok(performance.now() - start < 3000, "refusals are immediate");

      await inside(guest, "ip addr flush dev eth0; ip addr add 172.30.0.3/24 dev eth0");
      const spoofed = await inside(guest, "socat - TCP4:172.30.0.1:8080,connect-timeout=3 </dev/null");
      assert.notEqual(spoofed.code, 0);
    } finally {
      for (const name of names) await removeNetwork(name);
      await server.shutdown();
      await relay.status;
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  name: `a network is made and removed in well under a second${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const name = namespaceName("test4");
    const start = performance.now();
    await createNetwork(name, 4, GATEWAY_ONLY);
    await removeNetwork(name);
    assert.ok(performance.now() - start < 1000, `took ${performance.now() - start} ms`);
  },
});

Deno.test("removeNetwork() touches no namespace that is not a session's", async () => {
  await assert.rejects(removeNetwork("default"), RangeError);
  await assert.rejects(removeNetwork("pdk-../../etc"), RangeError);
  assert.throws(() => namespaceName("a b"), RangeError);
});

Deno.test("linkRuleset() drops by policy, rejects aloud, and opens DNS only where there is a server", () => {
  const text = linkRuleset(GATEWAY_ONLY);
  assert.equal(text.match(/policy drop/g)?.length, 3);
  assert.match(text, /hook ingress device "tap0"[^]*ether type ip6 drop/);
  assert.equal(text.match(/reject with/g)?.length, 2);
  assert.doesNotMatch(text, /udp dport 53/);
  assert.match(
    linkRuleset({ tcpPorts: [80, 8080], hasDns: true }),
    /dport \{ 80, 8080 \} accept\n.*udp dport 53 limit/,
  );
});
