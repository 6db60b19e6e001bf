/**
 * The guest's name server: it knows the names that the guest may reach, says that all of them are at the proxy,
 * and that no other name exists. It asks nobody, so that nothing leaves through a name.
 *
 * @module
 */

import { DNS_RCODE, DNS_TYPE_A, encodeDnsResponse, parseDnsQuery } from "./dns_message.ts";
import type { EgressPolicy } from "./egress_policy.ts";
import { normalizeName } from "./egress_rule.ts";
import { type OnNetworkDecision, printableHost } from "./network_decision.ts";
import { LINK } from "./ruleset.ts";

/** How long a guest may keep an answer, in seconds: it is the same for all names, and not worth keeping. */
const TTL_SECONDS = 5;
/** Queries that are answered in one second; more are a flood. */
const MAX_QUERIES_PER_SECOND = 200;
const PROXY_ADDRESS = LINK.hostAddr.split(".").map(Number);

/** Answers queries by a policy. */
export class NameServer {
  readonly #policy: EgressPolicy;
  readonly #onDecision: OnNetworkDecision;
  #second = 0;
  #queryCount = 0;

  constructor(options: { readonly policy: EgressPolicy; readonly onDecision: OnNetworkDecision }) {
    this.#policy = options.policy;
    this.#onDecision = options.onDecision;
  }

  /** The response to a message, or undefined: it deserves none. */
  answer(message: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const query = parseDnsQuery(message);
    if (query.kind === "noise") return undefined;
    const deny = (host: string, reason: string): void =>
      this.#onDecision({ action: "denied", protocol: "dns", host, port: null, reason });
    if (this.#isFlood()) {
      deny("DNS", `more than ${MAX_QUERIES_PER_SECOND} queries a second`);
      return encodeDnsResponse(query, { rcode: DNS_RCODE.refused });
    }
    if (query.kind === "error") {
      deny("DNS", query.reason);
      return encodeDnsResponse(query, { rcode: query.rcode });
    }
    const name = normalizeName(query.name);
    const refusal = name === undefined ? "not a public host name" : this.#policy.refusal(name);
    if (refusal !== undefined) {
      deny(printableHost(query.name === "" ? "." : query.name), refusal);
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
