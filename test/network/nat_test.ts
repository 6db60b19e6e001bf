import assert from "node:assert/strict";
import { EgressPolicy, type EgressRequest } from "../../src/network/egress_policy.ts";
import { linkServices } from "../../src/network/egress.ts";
import { natHostInterface } from "../../src/network/nat_link.ts";
import { linkRuleset } from "../../src/network/ruleset.ts";
import { NAMESPACES } from "../support/guest_namespace.ts";
import type { NatFindings } from "../support/nat_world.ts";

const HOST = "pdk-natworld";
const PERMISSIONS = ["read", "write", "run", "net", "env", "sys"].map((name) => `--allow-${name}`);
const WORLD = new URL("../support/nat_world.ts", import.meta.url).pathname;

const ip = (...args: string[]): Promise<Deno.CommandOutput> =>
  new Deno.Command("ip", { args, env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" } }).output();

async function inWorld(): Promise<NatFindings> {
  await ip("netns", "del", HOST);
  await ip("netns", "add", HOST);
  try {
    // With no more rights than the product has
    const command = [Deno.execPath(), "run", "--no-check", "--no-lock", "--no-prompt", ...PERMISSIONS, WORLD];
    const { code, stdout, stderr } = await ip("netns", "exec", HOST, ...command);
    assert.equal(code, 0, new TextDecoder().decode(stderr));
    return JSON.parse(new TextDecoder().decode(stdout)) as NatFindings;
  } finally {
    // What listens in it ends with it
    const pids = new TextDecoder().decode((await ip("netns", "pids", HOST)).stdout).split("\n").filter(
      Boolean,
    );
    for (const pid of pids) Deno.kill(Number(pid), "SIGKILL");
    await ip("netns", "del", HOST);
  }
}

Deno.test({
  name: `in mode nat a guest reaches the world and not its host or what is private${NAMESPACES.suffix}`,
  ignore: NAMESPACES.ignore,
  async fn(): Promise<void> {
    const found = await inWorld();
    assert.match(found.unforwarded, /forwards no packets; allow it with sysctl -w net\.ipv4\.ip_forward=1/);
    const { attempts } = found;
    // The server sees the host's address: the guest's is masqueraded.
    assert.equal(attempts["site"], "ok: from 203.0.113.1\n");
    assert.equal(attempts["site again"], "ok: from 203.0.113.1\n");
    assert.equal(attempts["udp"], "ok: hi\n");
    assert.match(attempts["ping"] ?? "", /^ok: .*1 received/s);
    assert.match(attempts["name of the site"] ?? "", /5db8d822$/);
    for (const name of ["name of an inner address", "name that is none"]) {
      assert.match(attempts[name] ?? "", /^ok: 12348583/, "does not exist");
    }
    const denied = [
      "private address",
      "metadata",
      "shared address",
      "the host's public address",
      "the host's side of the way out",
      "the namespace's own",
    ];
    for (const what of denied) assert.equal(attempts[what], "failed: ", what);
    assert.equal(found.inward, "failed: ");

    const lines = found.decisions.join("\n");
    assert.match(lines, /^allowed: 93\.184\.216\.34:80 \(TCP\)$/m);
    assert.match(lines, /^allowed: 93\.184\.216\.34:4433 \(UDP\)$/m);
    assert.match(lines, /^allowed: 93\.184\.216\.34 \(ICMP\)$/m);
    assert.match(lines, /^allowed: site\.example\.com \(is 93\.184\.216\.34\)$/m);
    assert.match(lines, /^denied: inner\.example\.com \(name resolves to 10\.9\.9\.9 \(private\)\)$/m);
    assert.match(lines, /^failed: none\.example\.com \(name does not resolve on the host\)$/m);
    for (const address of ["10.9.9.9", "169.254.169.254", "100.64.1.1", "203.0.113.1"]) {
      assert.ok(
        lines.includes(
          `denied: ${address}:80 (TCP${address === "203.0.113.1" ? ":" : " to an inner address"}`,
        ),
        `${address}: ${lines}`,
      );
    }
    assert.ok(found.allowed >= 5, `two connections, a datagram, a ping, a name: ${found.allowed}`);

    assert.match(found.during, /table inet pdk-nattest1\n[^]*pdknattest1/);
    assert.equal(found.after, "", "the table and the interface went with the session");
  },
});

Deno.test("a project narrows mode nat to another, and cannot widen to it", () => {
  const mode = (request: Partial<EgressRequest>): string =>
    new EgressPolicy({ mode: "nat", allow: [], profiles: [], ...request }).mode;
  const source = "sandbox.toml";
  assert.equal(mode({}), "nat");
  assert.equal(mode({ project: { source, mode: "nat" } }), "nat");
  assert.equal(mode({ project: { source, mode: "proxy", allow: ["a.example"] } }), "proxy");
  assert.equal(mode({ project: { source, mode: "none" } }), "none");
  assert.equal(mode({ mode: "proxy", project: { source, mode: "nat" } }), "proxy");
  assert.equal(mode({ mode: "none", project: { source, mode: "nat" } }), "none");
  for (const rules of [{ allow: ["a.example"] }, { deny: ["a.example"] }]) {
    assert.throws(() => mode({ project: { source, ...rules } }), /knows no names.*rules of sandbox\.toml/);
  }
});

Deno.test("linkServices() opens the world only in mode nat, but for what is refused", () => {
  const services = linkServices(new EgressPolicy({ mode: "nat", allow: ["a.example"], profiles: [] }), {
    resolve: () => Promise.resolve([]),
    connect: () => Promise.reject(new Error("unused")),
    ownAddresses: () => ["203.0.113.1", "2001:db8::1"],
  });
  assert.deepEqual(services.tcpPorts, [8080]);
  assert.ok(services.nat?.refused.includes("203.0.113.1"));
  assert.ok(services.nat?.refused.includes("169.254.0.0/16"));
  assert.ok(!services.nat?.refused.some((address) => address.includes(":")));
  assert.match(linkRuleset(services), /iifname "out0" accept[^]*masquerade/);
  assert.doesNotMatch(linkRuleset({ tcpPorts: [8080], hasDns: true }), /out0|masquerade|refused/);
});

Deno.test("natHostInterface() names what the kernel can have", () => {
  assert.equal(natHostInterface("pdk-abcdefghij"), "pdkabcdefghij");
  assert.throws(() => natHostInterface("pdk-abcdefghijklm"), RangeError);
});
