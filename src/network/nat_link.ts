/**
 * The way out of a session in mode `nat`: a pair of virtual interfaces between its namespace and the host, and the host's
 * table that lets the guest's packets out and nothing in. What the guest may reach is decided in the namespace
 * (`ruleset.ts`) and once more here: the monitor lives in the namespace, the host's table is out of its reach.
 *
 * All of it has names that follow from the namespace's. The interfaces end with the namespace; the table does not, so that
 * a mark beside the namespaces' own says that there is one. Neither outlives the host's kernel.
 *
 * @module
 */

import { join } from "node:path";
import { HostCommandError, runHostCommand } from "./host_command.ts";
import { REFUSED_V4_BLOCKS } from "./public_address.ts";

/** Interface of the namespace that leads out. */
export const NAT_INTERFACE = "out0";
/** Each session has four addresses of the block for benchmarks (RFC 2544), which the guest cannot reach. */
const FIRST_BLOCK = (198 << 24 >>> 0) + (18 << 16);
const BLOCK_COUNT = 2 ** 15;
const BLOCK_SIZE = 4;
const MAX_TRIES = 64;
/** `IFNAMSIZ` without its NUL. */
const MAX_INTERFACE_NAME = 15;
const MARK_FOLDER = "/run/paddock-nat";
const FORWARD_PATH = "/proc/sys/net/ipv4/ip_forward";

/** The host's interface that leads to a namespace. */
export function natHostInterface(namespace: string): string {
  const name = namespace.replace("-", "");
  if (name.length <= MAX_INTERFACE_NAME) return name;
  throw new RangeError(`Cannot name an interface after namespace "${namespace}"`);
}

/** The host's table for a namespace's guest. */
export function natHostRuleset(namespace: string, namespaceAddr: string): string {
  const link = natHostInterface(namespace);
  return `table inet ${namespace} {
  set refused {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${REFUSED_V4_BLOCKS.join(", ")} }
  }
  chain input {
    type filter hook input priority -10; policy accept;
    iifname "${link}" drop
  }
  chain forward {
    type filter hook forward priority -10; policy accept;
    iifname "${link}" ip daddr @refused drop
    iifname "${link}" meta nfproto ipv6 drop
    oifname "${link}" ct state != { established, related } drop
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr ${namespaceAddr} masquerade
  }
}
`;
}

function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".");
}

/** The two addresses of a block: the host's and the namespace's. */
function blockAddresses(index: number): { readonly hostAddr: string; readonly namespaceAddr: string } {
  const base = FIRST_BLOCK + (index % BLOCK_COUNT) * BLOCK_SIZE;
  return { hostAddr: dotted(base + 1), namespaceAddr: dotted(base + 2) };
}

/** A block that no interface of the host has yet: another session's, or somebody's own. */
function freeBlock(): ReturnType<typeof blockAddresses> {
  const taken = new Set(Deno.networkInterfaces().map(({ address }) => address));
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const [random = 0] = crypto.getRandomValues(new Uint16Array(1));
    const block = blockAddresses(random);
    if (!taken.has(block.hostAddr) && !taken.has(block.namespaceAddr)) return block;
  }
  throw new HostCommandError("Cannot connect a guest: no addresses of 198.18.0.0/15 are free", {
    tool: "ip",
  });
}

/** Whether the host passes packets on at all is its owner's decision. @throws {HostCommandError} */
async function checkForwarding(): Promise<void> {
  // By a program: to Deno, what lies in /proc takes more than the right to read.
  const text = new TextDecoder().decode(await runHostCommand(["cat", FORWARD_PATH]));
  if (text.trim() !== "0") return;
  throw new HostCommandError(
    "Cannot use mode nat: this host forwards no packets; allow it with sysctl -w net.ipv4.ip_forward=1",
    { tool: "sysctl" },
  );
}

/** The mark of a namespace that has, or is to have, a table of the host's. */
function markPath(namespace: string): string {
  return join(MARK_FOLDER, namespace);
}

/** Connects a namespace with the world; {@linkcode removeNatLink} takes back what does not end with the namespace. */
export async function createNatLink(namespace: string): Promise<void> {
  await checkForwarding();
  const link = natHostInterface(namespace);
  const { hostAddr, namespaceAddr } = freeBlock();
  // The mark comes first and goes last: while it is there, a table may be.
  await Deno.mkdir(MARK_FOLDER, { recursive: true, mode: 0o700 });
  await Deno.writeTextFile(markPath(namespace), "");
  await runHostCommand(
    ["ip", "link", "add", link, "type", "veth", "peer", "name", NAT_INTERFACE, "netns", namespace],
  );
  await runHostCommand(["nft", "-f", "-"], { stdin: natHostRuleset(namespace, namespaceAddr) });
  const commands = [`addr add ${hostAddr}/30 dev ${link}`, `link set ${link} up`];
  await runHostCommand(["ip", "-batch", "-"], { stdin: `${commands.join("\n")}\n` });
  await runHostCommand(["ip", "netns", "exec", namespace, "sh", "-e"], {
    stdin: `ip -batch - <<'END'
addr add ${namespaceAddr}/30 dev ${NAT_INTERFACE}
link set ${NAT_INTERFACE} up
route add default via ${hostAddr}
END
echo 1 > ${FORWARD_PATH}
`,
  });
}

/** Removes the host's table for a namespace, if there can be one. */
export async function removeNatLink(namespace: string): Promise<void> {
  const path = markPath(namespace);
  try {
    await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  // Made and deleted at once: a missing table is no error.
  await runHostCommand(["nft", "-f", "-"], {
    stdin: `table inet ${namespace}\ndelete table inet ${namespace}\n`,
  });
  await Deno.remove(path);
}
