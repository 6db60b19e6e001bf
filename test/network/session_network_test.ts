import assert from "node:assert/strict";
import { linkRuleset } from "../../src/network/ruleset.ts";
import {
  createNetwork,
  namespaceName,
  removeNetwork,
  type SessionNetwork,
  startRelay,
} from "../../src/network/session_network.ts";

function hasTools(): boolean {
  return ["ip", "nft", "socat"].every((tool) =>
    new Deno.Command("sh", { args: ["-c", `PATH=$PATH:/usr/sbin:/sbin command -v ${tool}`], stdout: "null" })
      .outputSync().success
  );
}

/** Namespaces need root and three tools; the name says so where they are missing. */
const ignore = Deno.uid() !== 0 || !hasTools();
const suffix = ignore ? " (skipped: needs root, ip, nft and socat)" : "";

async function inside(network: SessionNetwork, script: string): Promise<{ code: number; text: string }> {
  const [tool = "", ...args] = [...network.enter, "sh", "-c", script];
  const output = await new Deno.Command(tool, {
    args,
    stderr: "null",
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
  })
    .output();
  return { code: output.code, text: new TextDecoder().decode(output.stdout) };
}

Deno.test({
  name: `createNetwork() makes a namespace with a TAP device, a filter and no route out${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const name = namespaceName("test1");
    await removeNetwork(name);
    const network = await createNetwork(name, 1);
    try {
      assert.match((await inside(network, "ip -o addr show dev tap0")).text, /172\.30\.0\.1\/30/);
      assert.match((await inside(network, "nft list table inet paddock")).text, /tcp dport 8080 accept/);
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
    const network = await createNetwork(name, 2);
    try {
      assert.match((await inside(network, "ip -d link show tap0")).text, /multi_queue/);
    } finally {
      await removeNetwork(name);
    }
  },
});

/** A namespace at the other end of the link, in place of a guest: the TAP becomes a veth of the same name. */
async function plugGuest(network: SessionNetwork, guestName: string): Promise<SessionNetwork> {
  await removeNetwork(guestName);
  const guest = await createNetwork(guestName, 1);
  await inside(
    network,
    `ip link del tap0; ip link add tap0 type veth peer name eth0 netns ${guestName}
     ip addr add 172.30.0.1/30 dev tap0; ip link set tap0 up`,
  );
  await inside(
    guest,
    "nft flush ruleset; ip link del tap0; ip addr add 172.30.0.2/30 dev eth0; ip link set eth0 up",
  );
  return guest;
}

Deno.test({
  name: `a guest reaches the gateway through startRelay(), and nothing else, and is refused at once${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const folder = await Deno.makeTempDir();
    const names = [namespaceName("test2"), namespaceName("test3")] as const;
    await removeNetwork(names[0]);
    const network = await createNetwork(names[0], 1);
    const guest = await plugGuest(network, names[1]);
    const socketPath = `${folder}/gw.sock`;
    const server = Deno.serve(
      { path: socketPath, onListen: () => {} },
      () => new Response("from the gateway"),
    );
    const relay = await startRelay(network, socketPath);
    try {
      const answer = await inside(
        guest,
        "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | socat -t2 - TCP4:172.30.0.1:8080",
      );
      assert.match(answer.text, /from the gateway/);

      const start = performance.now();
      const ssh = await inside(guest, "socat - TCP4:172.30.0.1:22,connect-timeout=5 </dev/null");
      const dns = await inside(guest, "socat -t3 - UDP4:172.30.0.1:53 <<<x; ip route get 8.8.8.8");
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
    await createNetwork(name, 4);
    await removeNetwork(name);
    assert.ok(performance.now() - start < 1000, `took ${performance.now() - start} ms`);
  },
});

Deno.test("removeNetwork() touches no namespace that is not a session's", async () => {
  await assert.rejects(removeNetwork("default"), RangeError);
  await assert.rejects(removeNetwork("pdk-../../etc"), RangeError);
  assert.throws(() => namespaceName("a b"), RangeError);
});

Deno.test("linkRuleset() drops by policy and rejects aloud", () => {
  const text = linkRuleset();
  assert.equal(text.match(/policy drop/g)?.length, 2);
  assert.equal(text.match(/reject with tcp reset/g)?.length, 2);
});
