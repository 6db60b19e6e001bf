/**
 * A world of network namespaces around a session in mode nat: this process's own is the host, another is the Internet,
 * with a server at a public address and others where a guest must not get. Prints what a guest in it finds, as JSON. To be
 * started in a namespace of its own: it changes its host's forwarding.
 *
 * @module
 */

import { linkServices, openEgress } from "../../src/network/egress.ts";
import { EgressPolicy } from "../../src/network/egress_policy.ts";
import { describeDecision } from "../../src/network/network_decision.ts";
import { NetworkLog } from "../../src/network/network_log.ts";
import { createNetwork, namespaceName, removeNetwork } from "../../src/network/session_network.ts";
import { inside, plugGuest } from "./guest_namespace.ts";
import { dnsQuery, printfText } from "./wire_messages.ts";

/** What was found. */
export interface NatFindings {
  /** refusal before the host forwarded packets */
  readonly unforwarded: string;
  /** output of each command in the guest, its exit code before it */
  readonly attempts: Readonly<Record<string, string>>;
  /** the world's attempt to reach the guest */
  readonly inward: string;
  /** decisions, the first of each kind */
  readonly decisions: readonly string[];
  readonly allowed: number;
  /** tables and interfaces on the host: while the session ran, and after it */
  readonly during: string;
  readonly after: string;
}

const SITE = "93.184.216.34";
const SESSION = namespaceName("nattest1");
const GUEST = namespaceName("nattest2");
const WORLD = namespaceName("nattest3");
const HOST_STATE = "nft list tables; ip -o link | grep pdknattest1";

const onHost = async (script: string): Promise<string> =>
  (await inside({ namespace: "", enter: ["env"] }, script)).text;
const tcp = (address: string, port: number): string =>
  `socat -t2 - TCP4:${address}:${port},connect-timeout=3 </dev/null`;
const dns = (name: string): string =>
  `printf '${
    printfText(dnsQuery(name, 1))
  }' | socat -t1 - UDP4:172.30.0.1:53 | od -An -v -tx1 | tr -d ' \\n'`;

const ATTEMPTS: Readonly<Record<string, string>> = {
  site: tcp(SITE, 80),
  "site again": tcp(SITE, 80),
  udp: `echo hi | socat -t1 - UDP4:${SITE}:4433`,
  ping: `ping -c 1 -W 2 ${SITE}`,
  "name of the site": dns("site.example.com"),
  "name of an inner address": dns("inner.example.com"),
  "name that is none": dns("none.example.com"),
  "private address": tcp("10.9.9.9", 80),
  metadata: tcp("169.254.169.254", 80),
  "shared address": tcp("100.64.1.1", 80),
  "the host's public address": tcp("203.0.113.1", 80),
  "the host's side of the way out": tcp("HOST_ADDR", 80),
  "the namespace's own": tcp("172.30.0.1", 22),
};

async function makeWorld(): Promise<void> {
  await removeNetwork(WORLD);
  await onHost(`ip link set lo up; ip netns add ${WORLD}
    ip link add wan type veth peer name eth0 netns ${WORLD}
    ip addr add 203.0.113.1/24 dev wan; ip link set wan up
    for a in ${SITE} 10.9.9.9 169.254.169.254 100.64.1.1; do ip route add $a via 203.0.113.2; done`);
  const world = { namespace: WORLD, enter: ["ip", "netns", "exec", WORLD] };
  await inside(
    world,
    `ip link set lo up; ip addr add 203.0.113.2/24 dev eth0; ip link set eth0 up
    for a in ${SITE} 10.9.9.9 169.254.169.254 100.64.1.1; do ip addr add $a/32 dev lo; done
    socat TCP4-LISTEN:80,fork,reuseaddr SYSTEM:'echo from \\$SOCAT_PEERADDR' >/dev/null 2>&1 &
    socat UDP4-RECVFROM:4433,bind=${SITE},fork EXEC:cat >/dev/null 2>&1 &`,
  );
  // A server of the host's own, which answers whoever gets to it
  await onHost("socat TCP4-LISTEN:80,fork,reuseaddr SYSTEM:'echo from the host' >/dev/null 2>&1 &");
}

async function findOut(folder: string): Promise<NatFindings> {
  const policy = new EgressPolicy({ mode: "nat", allow: [], profiles: [] });
  const decisions: string[] = [];
  const log = new NetworkLog({
    path: `${folder}/network.jsonl`,
    policy,
    onFirst: (decision) => decisions.push(describeDecision(decision)),
  });
  const services = linkServices(policy);
  await removeNetwork(SESSION);
  const unforwarded = await createNetwork(SESSION, 1, services).then(() => "made", (error) => error.message);
  await removeNetwork(SESSION);
  await onHost("echo 1 > /proc/sys/net/ipv4/ip_forward");
  const network = await createNetwork(SESSION, 1, services);
  const guest = await plugGuest(network, GUEST);
  const egress = await openEgress({
    network,
    policy,
    log,
    folder,
    outside: {
      resolve: (name) =>
        name.startsWith("none.")
          ? Promise.reject(new Error("NXDOMAIN"))
          : Promise.resolve([name.startsWith("site.") ? SITE : "10.9.9.9"]),
      connect: () => Promise.reject(new Error("nothing connects in mode nat")),
      ownAddresses: () => [],
    },
  });
  const hostAddr =
    Deno.networkInterfaces().find(({ name, family }) => name === "pdknattest1" && family === "IPv4")
      ?.address ?? "none";
  const attempts: Record<string, string> = {};
  for (const [what, command] of Object.entries(ATTEMPTS)) {
    const { code, text } = await inside(guest, command.replace("HOST_ADDR", hostAddr));
    attempts[what] = `${code === 0 ? "ok" : "failed"}: ${text}`;
  }
  const during = await onHost(HOST_STATE);
  const namespaceAddr = hostAddr.replace(/\d+$/, (last) => String(Number(last) + 1));
  const inward = await inside(
    { namespace: WORLD, enter: ["ip", "netns", "exec", WORLD] },
    `ip route add 198.18.0.0/15 via 203.0.113.1; ${tcp(namespaceAddr, 8080)}`,
  );
  await egress[Symbol.asyncDispose]();
  for (const name of [SESSION, GUEST]) await removeNetwork(name);
  const { allowed } = log.close();
  // The kernel takes interfaces down after their namespace.
  for (let tries = 0; tries < 50 && (await onHost("ip -o link | grep pdknattest1")) !== ""; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return {
    unforwarded,
    attempts,
    inward: `${inward.code === 0 ? "ok" : "failed"}: ${inward.text}`,
    decisions,
    allowed,
    during,
    after: await onHost(HOST_STATE),
  };
}

if (import.meta.main) {
  const folder = await Deno.makeTempDir();
  try {
    await makeWorld();
    console.log(JSON.stringify(await findOut(folder)));
  } finally {
    for (const name of [SESSION, GUEST, WORLD]) await removeNetwork(name);
    await Deno.remove(folder, { recursive: true });
  }
  Deno.exit(0);
}
