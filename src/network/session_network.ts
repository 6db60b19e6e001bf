/**
 * The network of one session: a network namespace with a TAP device in it and nothing else. The VMM runs
 * inside the namespace, and so do relays from the link's address to the Unix sockets of the model gateway, the name
 * server and the proxy.
 *
 * @module
 */

import { HostCommandError, runHostCommand, spawnHostCommand, toolEnv } from "./host_command.ts";
import { createNatLink, removeNatLink } from "./nat_link.ts";
import { LINK, linkRuleset, type LinkServices } from "./ruleset.ts";

/** Most connections of one guest to one relay: each costs the host a process and a socket. */
const MAX_RELAY_CHILDREN = 64;
const NAMESPACE_PATTERN = /^pdk-[a-z0-9]{1,24}$/;

/** Names of the namespaces that belong to sessions. */
export function namespaceName(sessionId: string): string {
  const name = `pdk-${sessionId}`;
  if (!NAMESPACE_PATTERN.test(name)) {
    throw new RangeError(`Cannot name a namespace after session "${sessionId}"`);
  }
  return name;
}

/** A session's network; its owner removes it with {@linkcode removeNetwork}. */
export interface SessionNetwork {
  /** name of the network namespace */
  readonly namespace: string;
  /** words to put before a command that is to run inside the namespace */
  readonly enter: readonly string[];
}

function setupScript(cpus: number, services: LinkServices): string {
  const { tap, hostAddr, prefixLength } = LINK;
  // The VMM has a queue for each vCPU, and the kernel takes several only for a device that was made so.
  const queues = cpus > 1 ? "multi_queue" : "";
  return `
if [ -e /proc/sys/net/ipv6/conf/all/disable_ipv6 ]; then echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; fi
ip -batch - <<'END'
tuntap add dev ${tap} mode tap ${queues}
addr add ${hostAddr}/${prefixLength} dev ${tap}
link set ${tap} up
END
nft -f - <<'END'
${linkRuleset(services)}END
`;
}

/** Makes the namespace, the TAP device and the packet filter of a session whose guest has `cpus` vCPUs. */
export async function createNetwork(
  namespace: string,
  cpus: number,
  services: LinkServices,
): Promise<SessionNetwork> {
  const enter = ["ip", "netns", "exec", namespace];
  await runHostCommand(["ip", "netns", "add", namespace]);
  await runHostCommand([...enter, "sh", "-e"], { stdin: setupScript(cpus, services) });
  if (services.nat !== undefined) await createNatLink(namespace);
  return { namespace, enter };
}

/** One port of the link's address, and where what comes to it goes. */
export interface RelayOptions {
  readonly port: number;
  /** `udp`: each datagram becomes a connection of its own, and so does its answer a datagram */
  readonly protocol: "tcp" | "udp";
  readonly socketPath: string;
}

/** Starts the relay from a port of the link's address to a Unix socket, and waits until it listens. */
export async function startRelay(network: SessionNetwork, options: RelayOptions): Promise<Deno.ChildProcess> {
  const { port, protocol, socketPath } = options;
  // Datagrams are held to a rate by the filter instead: each child is gone once it has its answer.
  const kind = protocol === "tcp"
    ? `TCP4-LISTEN:${port},max-children=${MAX_RELAY_CHILDREN}`
    : `UDP4-RECVFROM:${port}`;
  const listen = `${kind},bind=${LINK.hostAddr},fork,reuseaddr`;
  // Two levels of "-d" make socat say when it listens.
  const argv = [...network.enter, "socat", "-d", "-d", listen, `UNIX-CONNECT:${socketPath}`];
  const child = spawnHostCommand(argv, { env: toolEnv(), stdin: "null", stdout: "null", stderr: "piped" });
  const listening = Promise.withResolvers<boolean>();
  void watchRelay(child.stderr, listening.resolve);
  if (await listening.promise) return child;
  throw new HostCommandError(`Cannot start the relay of port ${port}: socat does not listen`, {
    tool: "socat",
  });
}

/** Reads what the relay says to its end, and tells whether it came to listen. */
async function watchRelay(
  stderr: ReadableStream<Uint8Array>,
  tell: (isListening: boolean) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let start = "";
  for await (const chunk of stderr) {
    if (start.length < 4096) start += decoder.decode(chunk, { stream: true });
    if (/ (listening|receiving) on /.test(start)) tell(true);
  }
  tell(false);
}

/** Removes a session's network with every process in it; one that is already gone is no error. */
export async function removeNetwork(namespace: string): Promise<void> {
  if (!NAMESPACE_PATTERN.test(namespace)) {
    throw new RangeError(`Cannot remove network namespace "${namespace}": not a session's`);
  }
  // Before the namespace: whoever is killed in between finds it again.
  await removeNatLink(namespace);
  try {
    Deno.statSync(`/run/netns/${namespace}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  await killProcesses(namespace);
  await runHostCommand(["ip", "netns", "del", namespace], { okCodes: [0, 1] });
}

async function killProcesses(namespace: string): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const listed = await runHostCommand(["ip", "netns", "pids", namespace], { okCodes: [0, 1, 255] });
    const pids = new TextDecoder().decode(listed).split("\n").filter((line) => line !== "").map(Number);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 10 * (attempt + 1)));
  }
  throw new HostCommandError(`Cannot end the processes in network namespace ${namespace}`, { tool: "ip" });
}
