/**
 * The addresses of a VM's private link and the packet filter on it. The filter lives in the session's network
 * namespace, which has no other interface: even without it there is nowhere to go. It is there so that what
 * the namespace itself offers stays at two things, and so that everything else fails at once: agents wait for
 * minutes on packets that vanish.
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
} as const;

/** The nftables ruleset of a session's namespace. */
export function linkRuleset(): string {
  const { tap, hostAddr, guestAddr, gatewayPort } = LINK;
  const fromGuest = `iifname "${tap}" ip saddr ${guestAddr} ip daddr ${hostAddr}`;
  return `table inet paddock {
  chain input {
    type filter hook input priority 0; policy drop;
    ${fromGuest} tcp dport ${gatewayPort} accept
    ${fromGuest} icmp type echo-request accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
}
`;
}
