/**
 * Learns from the packet filter of a session's namespace what it turned away: packets to addresses, which no
 * proxy ever sees.
 *
 * @module
 */

import { spawnHostCommand, toolEnv } from "./host_command.ts";
import type { EgressMode } from "./egress_policy.ts";
import { LineSplitter } from "./line_splitter.ts";
import { addressRefusal } from "./public_address.ts";
import type { NetworkDecision } from "./network_decision.ts";
import { LINK } from "./ruleset.ts";
import type { SessionNetwork } from "./session_network.ts";

const POLL_MS = 1000;
/** How long the last look may take. */
const LAST_LOOK_MS = 3000;
/** Longest line of nft: all sets full, with room to spare. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;

/**
 * Prints the filter's state for each line on its stdin, or an empty line when nothing was turned away since: packets
 * that came in (`Ip: InReceives`) less those that were delivered (`InDelivers`). Only a change costs a process. The line
 * "all" asks for the state whatever these say: they know of IPv4 only.
 */
const WATCH_SCRIPT = `
last=0
while read -r what; do
  now=0
  while read -r line; do
    case $line in "Ip: "[0-9]*) set -- $line; now=$(($4 - \${10})) ;; esac
  done < /proc/net/snmp
  if [ "$now" = "$last" ] && [ "$what" != all ]; then echo; else nft -j list table inet paddock || echo; fi
  last=$now
done`;

/** Protocols as nft names them where there is an `/etc/protocols`, and numbers them where there is none. */
const PROTOCOL_NAMES: Readonly<Record<string, string>> = {
  "1": "icmp",
  "2": "igmp",
  "6": "tcp",
  "17": "udp",
  "47": "gre",
  "50": "esp",
  "58": "ipv6-icmp",
  "132": "sctp",
};

/** One target that was turned away, or let out in mode nat. */
export interface DeniedTarget {
  /** whether it was let out */
  readonly isAllowed: boolean;
  readonly address: string;
  readonly protocol: string;
  readonly port: number | null;
  readonly packets: number;
}

/** Where an address is not known. */
const ANY_ADDRESS = "0.0.0.0";

/** The elements of the filter's sets in what `nft -j` prints. */
export function parseDeniedTargets(text: string): DeniedTarget[] {
  interface Element {
    readonly elem?: {
      readonly val?: string | number | { readonly concat?: readonly unknown[] };
      readonly counter?: { packets?: number };
    };
  }
  interface Entry {
    readonly set?: { readonly name?: string; readonly elem?: readonly Element[] };
  }
  const { nftables = [] } = JSON.parse(text) as { nftables?: Entry[] };
  return nftables.flatMap(({ set = {} }) =>
    (set.elem ?? []).flatMap(({ elem }) => {
      const { name = "" } = set;
      const value = elem?.val;
      // Of what there was no room to remember, only the protocol is known.
      const single = name === "denied_ipv6" ? [value, "ipv6"] : [ANY_ADDRESS, value];
      const concat = typeof value === "object" ? value.concat ?? [] : single;
      const [address, protocol, port] = concat;
      if (typeof address !== "string" || elem?.counter === undefined) return [];
      return [{
        isAllowed: name === "connections" || name === "pings",
        address,
        protocol: PROTOCOL_NAMES[String(protocol)] ?? String(protocol),
        port: typeof port === "number" ? port : null,
        packets: elem.counter.packets ?? 1,
      }];
    })
  );
}

function reasonFor({ address, protocol, port }: DeniedTarget, mode: EgressMode): string {
  if (address === ANY_ADDRESS) return "too many different targets in a short time";
  const name = /^[0-9]+$/.test(protocol) ? `IP protocol ${protocol}` : protocol.toUpperCase();
  if (address === LINK.hostAddr && port === LINK.dnsPort && protocol === "udp") {
    return "DNS: too many queries, or there are no names in mode none";
  }
  if (address === LINK.hostAddr) return `${name}: nothing of the sandbox is there`;
  if (protocol === "ipv6") return "IPv6 does not leave the sandbox";
  if (mode === "nat") {
    return addressRefusal(address) === undefined
      ? `${name}: the host's own address, or a protocol that is not let out`
      : `${name} to an inner address: ${addressRefusal(address)}`;
  }
  if (protocol === "tcp") return "TCP to an address; only allowed names can be reached";
  if (protocol === "udp") {
    return `UDP${port === 443 ? " (QUIC)" : port === 53 ? " (DNS)" : ""} does not leave the sandbox`;
  }
  return `${name} does not leave the sandbox`;
}

function toDecision(target: DeniedTarget, mode: EgressMode): NetworkDecision {
  const { address: host, isAllowed, port, protocol } = target;
  if (!isAllowed) return { action: "denied", protocol: "ip", host, port, reason: reasonFor(target, mode) };
  return { action: "allowed", protocol: "ip", host, port, reason: protocol.toUpperCase() };
}

/** Watches the filter of a session. */
export class DeniedPackets implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #stdout: ReadableStreamDefaultReader<Uint8Array>;
  readonly #splitter = new LineSplitter(MAX_LINE_BYTES, "throw");
  readonly #mode: EgressMode;
  readonly #onDenied: (decision: NetworkDecision, packets: number) => void;
  readonly #packets = new Map<string, number>();
  readonly #timer: ReturnType<typeof setInterval>;
  #looking: Promise<void> | undefined;
  #lines: string[] = [];

  /** `onDenied` is told of each target, and of how many packets it was since the last time. */
  constructor(
    network: SessionNetwork,
    mode: EgressMode,
    onDenied: (decision: NetworkDecision, packets: number) => void,
  ) {
    this.#mode = mode;
    this.#onDenied = onDenied;
    this.#child = spawnHostCommand([...network.enter, "sh", "-c", WATCH_SCRIPT], {
      env: toolEnv(),
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    });
    this.#stdin = this.#child.stdin.getWriter();
    this.#stdout = this.#child.stdout.getReader();
    this.#timer = setInterval(() => void this.look(), POLL_MS);
  }

  /** Looks now; one look at a time. */
  async look(what: "new" | "all" = "new"): Promise<void> {
    this.#looking ??= this.#look(what).catch(() => {/* the namespace is gone */}).finally(() =>
      this.#looking = undefined
    );
    await this.#looking;
  }

  /** Looks a last time, and ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    const limit = setTimeout(() => this.#kill(), LAST_LOOK_MS);
    await this.#looking;
    await this.look("all");
    clearTimeout(limit);
    this.#kill();
    await this.#stdin.abort().catch(() => {/* the process has ended */});
    await this.#stdout.cancel().catch(() => {/* likewise */});
    await this.#child.status;
  }

  #kill(): void {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended, with its namespace for one.
    }
  }

  async #look(what: "new" | "all"): Promise<void> {
    await this.#stdin.write(new TextEncoder().encode(`${what}\n`));
    const line = await this.#readLine();
    if (line === "") return;
    for (const target of parseDeniedTargets(line)) {
      const key = `${target.isAllowed} ${target.address} ${target.protocol} ${target.port}`;
      const before = this.#packets.get(key) ?? 0;
      // Fewer than before: it was forgotten meanwhile, and seen anew.
      const isNew = target.packets < before ? target.packets : target.packets - before;
      this.#packets.set(key, target.packets);
      if (isNew > 0) this.#onDenied(toDecision(target, this.#mode), isNew);
    }
  }

  async #readLine(): Promise<string> {
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) return line;
      const { done, value } = await this.#stdout.read();
      if (done) throw new RangeError("Cannot read the packet filter's state");
      this.#lines = this.#splitter.push(value);
    }
  }
}
