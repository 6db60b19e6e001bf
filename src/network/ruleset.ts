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

/** Targets that the filter remembers: a guest that scans the world fills no more than this of the kernel's memory. */
const MAX_DENIED_TARGETS = 1024;
/** Each query costs the host a process. */
const MAX_QUERIES_PER_SECOND = 100;

/** What a guest may talk to on the host's side of the link. */
export interface LinkServices {
  readonly tcpPorts: readonly number[];
  /** the name server */
  readonly hasDns: boolean;
}

/** The nftables ruleset of a session's namespace. */
export function linkRuleset(services: LinkServices): string {
  const { tap, hostAddr, guestAddr, dnsPort } = LINK;
  const fromGuest = `ip saddr ${guestAddr} ip daddr ${hostAddr}`;
  const dns = `
    ${fromGuest} udp dport ${dnsPort} limit rate ${MAX_QUERIES_PER_SECOND}/second burst ${MAX_QUERIES_PER_SECOND} packets accept`;
  // Before routing, since the kernel drops what is not for this host without a word after it.
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
  chain from_guest {
    type filter hook prerouting priority -300; policy drop;
    iifname != "${tap}" drop
    ${fromGuest} tcp dport { ${services.tcpPorts.join(", ")} } accept${services.hasDns ? dns : ""}
    ${fromGuest} icmp type echo-request accept
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
    type filter hook forward priority 0; policy drop;
  }
}
`;
}
