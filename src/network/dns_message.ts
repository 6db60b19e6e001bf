/**
 * The little of DNS (RFC 1035) that a guest's stub resolver needs: one question in, an address, nothing, or a
 * refusal out. Queries are a stranger's bytes: whatever is not exactly one plain question is turned down.
 *
 * @module
 */

/** Record types: RFC 1035 §3.2.2. */
export const DNS_TYPE_A = 1;
/** Response codes: RFC 1035 §4.1.1. */
export const DNS_RCODE = { noError: 0, formatError: 1, serverFailure: 2, nameError: 3, refused: 5 } as const;

const HEADER_BYTES = 12;
const CLASS_IN = 1;
const MAX_LABEL_BYTES = 63;
/** Length bytes and the root's included: RFC 1035 §3.1. */
const MAX_NAME_BYTES = 255;
/** Queries of stub resolvers have one question and one OPT record. */
const MAX_QUERY_BYTES = 1024;
const FLAG_RESPONSE = 0x8000;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
const FLAG_AUTHORITATIVE = 0x0400;
const OPCODE_MASK = 0x7800;

/** A query, as far as it could be read. */
export type DnsQuery =
  | {
    readonly kind: "question";
    readonly header: DnsHeader;
    /** labels joined by dots, one character a byte; may hold anything */
    readonly name: string;
    readonly type: number;
    /** question section as it came */
    readonly question: Uint8Array;
  }
  /** to be answered with an error */
  | { readonly kind: "error"; readonly header: DnsHeader; readonly rcode: number; readonly reason: string }
  /** not to be answered: no query at all */
  | { readonly kind: "noise" };

interface DnsHeader {
  readonly id: number;
  readonly isRecursionDesired: boolean;
}

/** Reads a name without compression at `offset`; undefined: it is not one. */
function readName(message: Uint8Array, offset: number): { name: string; end: number } | undefined {
  const labels: string[] = [];
  let at = offset;
  for (;;) {
    const length = message[at];
    // A length of 64 and over is a pointer or an extension: neither belongs into a question.
    if (length === undefined || length > MAX_LABEL_BYTES) return undefined;
    const next = at + 1 + length;
    if (next > message.length || next - offset > MAX_NAME_BYTES) return undefined;
    if (length === 0) return { name: labels.join("."), end: next };
    labels.push(String.fromCharCode(...message.subarray(at + 1, next)));
    at = next;
  }
}

/** Reads a message of a guest. */
export function parseDnsQuery(message: Uint8Array): DnsQuery {
  if (message.length < HEADER_BYTES) return { kind: "noise" };
  const word = (at: number): number => ((message[at] ?? 0) << 8) | (message[at + 1] ?? 0);
  const flags = word(2);
  if ((flags & FLAG_RESPONSE) !== 0) return { kind: "noise" };
  const header = { id: word(0), isRecursionDesired: (flags & FLAG_RECURSION_DESIRED) !== 0 };
  const fail = (reason: string, rcode: number = DNS_RCODE.formatError): DnsQuery => ({
    kind: "error",
    header,
    rcode,
    reason,
  });
  if (message.length > MAX_QUERY_BYTES) return fail("DNS query is too long");
  if ((flags & OPCODE_MASK) !== 0) return fail("DNS operation is not a query", DNS_RCODE.refused);
  // Answers and authorities do not belong into a query; the one additional record is EDNS's.
  if (word(4) !== 1 || word(6) !== 0 || word(8) !== 0 || word(10) > 1) {
    return fail("DNS query does not have exactly one question");
  }
  const found = readName(message, HEADER_BYTES);
  if (found === undefined || found.end + 4 > message.length) return fail("DNS question is malformed");
  if (word(found.end + 2) !== CLASS_IN) return fail("DNS class is not Internet", DNS_RCODE.refused);
  const question = message.slice(HEADER_BYTES, found.end + 4);
  return { kind: "question", header, name: found.name, type: word(found.end), question };
}

/** What to answer. */
export interface DnsAnswer {
  readonly rcode: number;
  /** IPv4 address (undefined: no record) */
  readonly address?: readonly number[];
  /** how long the address may be kept, in seconds */
  readonly ttlSeconds?: number;
}

/** The response to a query. */
export function encodeDnsResponse(
  query: Exclude<DnsQuery, { kind: "noise" }>,
  answer: DnsAnswer,
): Uint8Array<ArrayBuffer> {
  const question = query.kind === "question" ? query.question : new Uint8Array();
  const { address, ttlSeconds = 0, rcode } = answer;
  const flags = FLAG_RESPONSE | FLAG_AUTHORITATIVE | FLAG_RECURSION_AVAILABLE | rcode |
    (query.header.isRecursionDesired ? FLAG_RECURSION_DESIRED : 0);
  const words = (...values: number[]): number[] => values.flatMap((value) => [value >> 8, value & 0xff]);
  const header = words(
    query.header.id,
    flags,
    question.length > 0 ? 1 : 0,
    address === undefined ? 0 : 1,
    0,
    0,
  );
  // The record's name is a pointer to the question's.
  const record = address === undefined
    ? []
    : [...words(0xc000 | HEADER_BYTES, DNS_TYPE_A, CLASS_IN, 0, ttlSeconds, address.length), ...address];
  return Uint8Array.from([...header, ...question, ...record]);
}
