/**
 * Which addresses are out in the Internet. Names of strangers resolve to whatever their owner says: the
 * sandbox's proxy connects only to what is neither the host, nor its neighbours, nor a cloud's metadata.
 * After the IANA special-purpose address registries (RFC 6890, with later entries), without the blocks for
 * documentation: nobody is there but what a site has put there on purpose.
 *
 * @module
 */

/** IPv4 blocks that are refused: first address, prefix length, what it is. */
const REFUSED_V4: readonly (readonly [string, number, string])[] = [
  ["0.0.0.0", 8, "this network"],
  ["10.0.0.0", 8, "private"],
  ["100.64.0.0", 10, "shared (carrier-grade NAT)"],
  // Azure's wire server: a public address that answers only inside.
  ["168.63.129.16", 32, "metadata"],
  ["127.0.0.0", 8, "loopback"],
  ["169.254.0.0", 16, "link-local and metadata"],
  ["172.16.0.0", 12, "private"],
  ["192.0.0.0", 24, "protocol assignments"],
  ["192.88.99.0", 24, "6to4 relay"],
  ["192.168.0.0", 16, "private"],
  ["198.18.0.0", 15, "benchmarking"],
  ["224.0.0.0", 4, "multicast"],
  ["240.0.0.0", 4, "reserved"],
];

/** The IPv4 blocks that are refused, in CIDR form. */
export const REFUSED_V4_BLOCKS: readonly string[] = REFUSED_V4.map(([block, length]) => `${block}/${length}`);

/** Blocks within 2000::/3 that are refused; all outside it is: loopback, ULA, link-local, mapped, multicast. */
const REFUSED_V6: readonly (readonly [string, number, string])[] = [
  ["2001::", 23, "protocol assignments"],
  ["2002::", 16, "6to4"],
];

/** The 32 bits of a dotted address, or undefined. */
function parseV4(text: string): bigint | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9][0-9]{0,2})$/.test(part))) return undefined;
  const bytes = parts.map(Number);
  if (bytes.some((byte) => byte > 255)) return undefined;
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

/** The 128 bits of an address (RFC 4291 §2.2), or undefined; addresses with a zone are none. */
function parseV6(text: string): bigint | undefined {
  const dotted = /^(.*:)([0-9.]+)$/.exec(text);
  if (dotted?.[2]?.includes(".")) {
    const low = parseV4(dotted[2]);
    if (low === undefined) return undefined;
    return parseV6(`${dotted[1]}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`);
  }
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const [head = [], tail = []] = halves.map((half) => half === "" ? [] : half.split(":"));
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...Array<string>(missing).fill("0"), ...tail];
  if (!groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  return groups.reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n);
}

function isIn(address: bigint, block: bigint, prefixLength: number, bits: number): boolean {
  return (address >> BigInt(bits - prefixLength)) === (block >> BigInt(bits - prefixLength));
}

/** What kind of address keeps it from being connected to; undefined: it is a public one. */
export function addressRefusal(text: string): string | undefined {
  const v4 = parseV4(text);
  if (v4 !== undefined) {
    return REFUSED_V4.find(([block, length]) => isIn(v4, parseV4(block) ?? 0n, length, 32))?.[2];
  }
  const v6 = parseV6(text);
  if (v6 === undefined) return "not an address";
  if (v6 >> 125n !== 1n) return "not public";
  return REFUSED_V6.find(([block, length]) => isIn(v6, parseV6(block) ?? 0n, length, 128))?.[2];
}
