/**
 * Everything of a session that leads out of its guest but the model gateway: name server and proxy with their sockets
 * and relays, and the watch on what the packet filter turns away.
 *
 * @module
 */

import { isIP } from "node:net";
import { join } from "node:path";
import { DeniedPackets } from "./denied_packets.ts";
import type { EgressPolicy } from "./egress_policy.ts";
import { EgressProxy } from "./egress_proxy.ts";
import { NAT_INTERFACE } from "./nat_link.ts";
import { NameServer } from "./name_server.ts";
import type { NetworkLog } from "./network_log.ts";
import { HOST_OUTSIDE, type Outside } from "./outside.ts";
import { REFUSED_V4_BLOCKS } from "./public_address.ts";
import { LINK, type LinkServices } from "./ruleset.ts";
import { type SessionNetwork, startRelay } from "./session_network.ts";
import { closeQuietly } from "./splice.ts";

/** How long a query may take, in `ms`. */
const QUERY_LIMIT_MS = 10_000;
const MAX_MESSAGE_BYTES = 2048;

type Awaitable<T> = T | Promise<T>;

/** What a guest under a policy needs of the host's side of its link. */
export function linkServices(policy: EgressPolicy, outside: Outside = HOST_OUTSIDE): LinkServices {
  return {
    tcpPorts: [LINK.gatewayPort, ...(policy.isOpen ? [LINK.proxyPort, ...policy.ports] : [])],
    hasDns: policy.mode !== "none",
    ...(policy.mode === "nat" ? { nat: { interfaceName: NAT_INTERFACE, refused: natRefused(outside) } } : {}),
  };
}

/** What a guest may not reach whatever its mode: what is not out in the world, and the host. */
function natRefused(outside: Outside): string[] {
  return [...REFUSED_V4_BLOCKS, ...outside.ownAddresses().filter((address) => isIP(address) === 4)];
}

/** Options of {@linkcode openEgress}. */
export interface EgressOptions {
  readonly network: SessionNetwork;
  readonly policy: EgressPolicy;
  readonly log: Pick<NetworkLog, "add">;
  /** session's folder, for the sockets */
  readonly folder: string;
  /** way to the world (default: the host's) */
  readonly outside?: Outside | undefined;
}

/** Accepts connections on a Unix socket until it is closed. */
function listen(path: string, serve: (connection: Deno.Conn) => Promise<void>): Deno.Listener {
  const listener = Deno.listen({ transport: "unix", path });
  void (async (): Promise<void> => {
    for await (const connection of listener) void serve(connection);
  })();
  return listener;
}

/** Takes one query from a connection, and puts its answer there. */
async function serveQuery(
  connection: Deno.Conn,
  answerTo: (message: Uint8Array) => Awaitable<Uint8Array | undefined>,
): Promise<void> {
  const timer = setTimeout(() => closeQuietly(connection), QUERY_LIMIT_MS);
  try {
    const message = new Uint8Array(MAX_MESSAGE_BYTES);
    let length = 0;
    // The relay says by its end of the stream where a datagram ends.
    for (let count: number | null = 0; count !== null && length < message.length; length += count ?? 0) {
      count = await connection.read(message.subarray(length));
    }
    const answer = await answerTo(message.subarray(0, length));
    if (answer !== undefined) await connection.write(answer);
  } catch {
    // The relay went away: there is nobody to answer.
  } finally {
    clearTimeout(timer);
    closeQuietly(connection);
  }
}

/** Opens what a policy needs; what is not needed costs nothing. */
export async function openEgress(options: EgressOptions): Promise<AsyncDisposable> {
  const { folder, log, network, outside = HOST_OUTSIDE, policy } = options;
  await using stack = new AsyncDisposableStack();
  const onDecision = log.add.bind(log);
  stack.use(new DeniedPackets(network, policy.mode, onDecision));
  const relays: Promise<unknown>[] = [];
  const open = (
    protocol: "tcp" | "udp",
    port: number,
    serve: (connection: Deno.Conn) => Promise<void>,
  ): void => {
    const socketPath = join(folder, `${protocol}${port}.sock`);
    const listener = listen(socketPath, serve);
    stack.defer(() => listener.close());
    relays.push(startRelay(network, { port, protocol, socketPath }));
  };
  if (policy.mode !== "none") {
    const server = new NameServer({ policy, onDecision });
    const answerTo = policy.mode === "nat"
      ? (message: Uint8Array) => server.answerFrom(outside, message)
      : (message: Uint8Array) => server.answer(message);
    open("udp", LINK.dnsPort, (connection) => serveQuery(connection, answerTo));
  }
  if (policy.isOpen) {
    const proxy = new EgressProxy({ policy, outside, onDecision });
    stack.defer(() => proxy.close());
    open("tcp", LINK.proxyPort, (connection) => proxy.serve(connection, undefined));
    for (const port of policy.ports) open("tcp", port, (connection) => proxy.serve(connection, port));
  }
  await Promise.all(relays);
  return stack.move();
}
