/**
 * The guest's name server: it knows the names that the guest may reach, says that all of them are at the proxy,
 * and that no other name exists. It asks nobody, so that nothing leaves through a name. Only where a guest may reach
 * everything outside (mode nat) does it ask the host's resolver.
 *
 * @module
 */

import { isIP } from "node:net";
import { DNS_RCODE, DNS_TYPE_A, type DnsQuery, encodeDnsResponse, parseDnsQuery } from "./dns_message.ts";
import type { EgressPolicy } from "./egress_policy.ts";
import { normalizeName } from "./egress_rule.ts";
import { type OnNetworkDecision, printableHost } from "./network_decision.ts";
import { checkedAddresses, type Outside, OutsideError } from "./outside.ts";
import { LINK } from "./ruleset.ts";

/** How long a guest may keep an answer, in seconds: it is the same for all names, and not worth keeping. */
const TTL_SECONDS = 5;
/** Queries that are answered in one second; more are a flood. */
const MAX_QUERIES_PER_SECOND = 200;
const NOT_PUBLIC = "not a public host name";
const PROXY_ADDRESS = LINK.hostAddr.split(".").map(Number);

/** Names that are looked up at once. */
const MAX_LOOKUPS = 32;

/** Answers queries by a policy, or with what the host's resolver says. */
export class NameServer {
  readonly #policy: EgressPolicy;
  readonly #onDecision: OnNetworkDecision;
  #second = 0;
  #queryCount = 0;
  #lookupCount = 0;

  constructor(options: { readonly policy: EgressPolicy; readonly onDecision: OnNetworkDecision }) {
    this.#policy = options.policy;
    this.#onDecision = options.onDecision;
  }

  /** The response to a message, or undefined: it deserves none. */
  answer(message: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const query = this.#read(message);
    if (query.kind !== "question") return query.response;
    const name = normalizeName(query.name);
    const refusal = name === undefined ? NOT_PUBLIC : this.#policy.refusal(name);
    if (refusal !== undefined) {
      this.#tell("denied", query.name, refusal);
      return encodeDnsResponse(query, { rcode: DNS_RCODE.nameError });
    }
    // Every other type has no record: no IPv6, and no keys for an encrypted ClientHello (RFC 9460).
    if (query.type !== DNS_TYPE_A) return encodeDnsResponse(query, { rcode: DNS_RCODE.noError });
    return encodeDnsResponse(query, {
      rcode: DNS_RCODE.noError,
      address: PROXY_ADDRESS,
      ttlSeconds: TTL_SECONDS,
    });
  }

  /** The same where every name outside may be reached: what the host's resolver says, without what is not outside. */
  async answerFrom(outside: Outside, message: Uint8Array): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const query = this.#read(message);
    if (query.kind !== "question") return query.response;
    const rcodeOnly = (rcode: number): Uint8Array<ArrayBuffer> => encodeDnsResponse(query, { rcode });
    const name = normalizeName(query.name);
    if (name === undefined) {
      this.#tell("denied", query.name, NOT_PUBLIC);
      return rcodeOnly(DNS_RCODE.nameError);
    }
    if (query.type !== DNS_TYPE_A) return rcodeOnly(DNS_RCODE.noError);
    if (this.#lookupCount >= MAX_LOOKUPS) {
      this.#tell("denied", "DNS", `more than ${MAX_LOOKUPS} names at once`);
      return rcodeOnly(DNS_RCODE.refused);
    }
    this.#lookupCount += 1;
    try {
      const found = await checkedAddresses(outside, name);
      const address = found.find((text) => isIP(text) === 4);
      if (address === undefined) return rcodeOnly(DNS_RCODE.noError);
      this.#tell("allowed", name, `is ${address}`);
      return encodeDnsResponse(query, {
        rcode: DNS_RCODE.noError,
        address: address.split(".").map(Number),
        ttlSeconds: TTL_SECONDS,
      });
    } catch (error) {
      if (!(error instanceof OutsideError)) throw error;
      this.#tell(error.isRefusal ? "denied" : "failed", name, error.message);
      return rcodeOnly(DNS_RCODE.nameError);
    } finally {
      this.#lookupCount -= 1;
    }
  }

  /** A question, or the response to what is none. */
  #read(
    message: Uint8Array,
  ):
    | Extract<DnsQuery, { kind: "question" }>
    | { readonly kind: "answered"; readonly response: Uint8Array<ArrayBuffer> | undefined } {
    const query = parseDnsQuery(message);
    if (query.kind === "noise") return { kind: "answered", response: undefined };
    if (this.#isFlood()) {
      this.#tell("denied", "DNS", `more than ${MAX_QUERIES_PER_SECOND} queries a second`);
      return { kind: "answered", response: encodeDnsResponse(query, { rcode: DNS_RCODE.refused }) };
    }
    if (query.kind === "question") return query;
    this.#tell("denied", "DNS", query.reason);
    return { kind: "answered", response: encodeDnsResponse(query, { rcode: query.rcode }) };
  }

  #tell(action: "allowed" | "denied" | "failed", name: string, reason: string): void {
    this.#onDecision({
      action,
      protocol: "dns",
      host: printableHost(name === "" ? "." : name),
      port: null,
      reason,
    });
  }

  #isFlood(): boolean {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#queryCount = 0;
    }
    this.#queryCount += 1;
    return this.#queryCount > MAX_QUERIES_PER_SECOND;
  }
}
