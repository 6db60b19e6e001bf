/**
 * The addresses of a VM's private link and the packet filter on it. The filter lives in the session's network
 * namespace, which has no other interface: even without it there is nowhere to go. It is there so that the
 * namespace itself offers no more than its relays, so that everything else fails at once (agents wait for
 * minutes on packets that vanish), and so that it is known afterwards what was tried.
 *
 * @module
 */

/** The link between the guest and its namespace: the same for every VM, so that a snapshot fits everywhere. */
export const LINK = {
  tap: "tap0",
  hostAddr: "172.30.0.1",
  guestAddr: "172.30.0.2",
  prefixLength: 30,
  guestMac: "06:00:ac:1e:00:02",
  gatewayPort: 8080,
  dnsPort: 53,
  proxyPort: 3128,
} as const;

/** Targets that the filter remembers for a while in mode nat, in seconds: what is told of already can be forgotten. */
const CONNECTION_MEMORY_S = 300;
const MAX_CONNECTION_TARGETS = 4096;
/** Targets that the filter remembers: a guest that scans the world fills no more than this of the kernel's memory. */
const MAX_DENIED_TARGETS = 1024;
/** Each query costs the host a process. */
const MAX_QUERIES_PER_SECOND = 100;

/** What a guest may talk to on the host's side of the link. */
export interface LinkServices {
  readonly tcpPorts: readonly number[];
  /** the name server */
  readonly hasDns: boolean;
  /** the rest of the world, but for what is refused (default: nothing of it) */
  readonly nat?: {
    /** interface that leads out */
    readonly interfaceName: string;
    /** IPv4 blocks and addresses that may not be reached */
    readonly refused: readonly string[];
  };
}

/** What a guest may send out in mode nat, and what is remembered of it. */
function natRules({ interfaceName, refused }: NonNullable<LinkServices["nat"]>): {
  readonly sets: string;
  readonly fromGuest: string;
  readonly forward: string;
} {
  const { tap, guestAddr } = LINK;
  const memory = `size ${MAX_CONNECTION_TARGETS}
    flags dynamic,timeout
    timeout ${CONNECTION_MEMORY_S}s`;
  return {
    sets: `
  set refused {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { ${refused.join(", ")} }
  }
  set connections {
    type ipv4_addr . inet_proto . inet_service
    ${memory}
  }
  set pings {
    type ipv4_addr . inet_proto
    ${memory}
  }
  set overflow {
    type inet_proto
    size 16
    flags dynamic
  }`,
    fromGuest: `
    ip saddr ${guestAddr} ip daddr != @refused meta l4proto { tcp, udp } accept
    ip saddr ${guestAddr} ip daddr != @refused icmp type echo-request accept`,
    // A target that there is no room to remember is refused, so that none goes unseen.
    forward: `
    iifname "${tap}" oifname "${interfaceName}" ct state established,related accept
    iifname "${interfaceName}" oifname "${tap}" ct state established,related accept
    iifname "${tap}" oifname "${interfaceName}" meta l4proto { tcp, udp } add @connections { ip daddr . meta l4proto . th dport counter } accept
    iifname "${tap}" oifname "${interfaceName}" meta l4proto icmp add @pings { ip daddr . meta l4proto counter } accept
    iifname "${tap}" add @overflow { meta l4proto counter }
    iifname "${tap}" reject with icmpx type admin-prohibited
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    oifname "${interfaceName}" masquerade`,
  };
}

/** The nftables ruleset of a session's namespace. */
export function linkRuleset(services: LinkServices): string {
  const { tap, hostAddr, guestAddr, dnsPort } = LINK;
  const fromGuest = `ip saddr ${guestAddr} ip daddr ${hostAddr}`;
  const dns = `
    ${fromGuest} udp dport ${dnsPort} limit rate ${MAX_QUERIES_PER_SECOND}/second burst ${MAX_QUERIES_PER_SECOND} packets accept`;
  const nat = services.nat === undefined ? undefined : natRules(services.nat);
  const others = nat === undefined ? "" : `iifname "${services.nat?.interfaceName}" accept
    `;
  // IPv6 is off here: what a guest sends of it is seen before the kernel drops it without a word, but for what every kernel
  // says of itself to all. The rest is looked at before routing, since the kernel drops what is not for this host likewise.
  return `table inet paddock {
  set denied_ports {
    type ipv4_addr . inet_proto . inet_service
    size ${MAX_DENIED_TARGETS}
    flags dynamic
  }
  set denied_protocols {
    type ipv4_addr . inet_proto
    size ${MAX_DENIED_TARGETS}
    flags dynamic
  }
  set denied_ipv6 {
    type ipv6_addr
    size ${MAX_DENIED_TARGETS}
    flags dynamic
  }${nat?.sets ?? ""}
  chain ipv6_from_guest {
    type filter hook ingress device "${tap}" priority 0; policy accept;
    ip6 daddr ff00::/8 drop
    ether type ip6 add @denied_ipv6 { ip6 daddr counter } drop
    ether type ip6 drop
  }
  chain from_guest {
    type filter hook prerouting priority -300; policy drop;
    ${others}iifname != "${tap}" drop
    ${fromGuest} tcp dport { ${services.tcpPorts.join(", ")} } accept${services.hasDns ? dns : ""}
    ${fromGuest} icmp type echo-request accept${nat?.fromGuest ?? ""}
    meta l4proto { tcp, udp } add @denied_ports { ip daddr . meta l4proto . th dport counter }
    meta l4proto != { tcp, udp } add @denied_protocols { ip daddr . meta l4proto counter }
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  chain input {
    type filter hook input priority 0; policy drop;
    iifname "${tap}" ip daddr ${hostAddr} accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;${nat?.forward ?? ""}
  }
}
`;
}
