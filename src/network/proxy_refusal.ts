/**
 * A connection that the proxy does not carry: for whom it was, why, and how the guest is told.
 *
 * @module
 */

import { describeDecision, type NetworkDecision, printableHost } from "./network_decision.ts";

/** Fatal alert `access_denied`: RFC 8446 §6. Clients show it, where a closed connection would look like a fault. */
export const TLS_ACCESS_DENIED = Uint8Array.of(21, 3, 3, 0, 2, 2, 49);

/** Whom a connection is for, and how that is known. */
export interface ProxyTarget {
  readonly protocol: "http" | "tls" | "connect";
  readonly host: string;
  readonly port: number;
}

/** Why a connection is not carried. */
export class ProxyRefusal extends Error {
  override readonly name = "ProxyRefusal";
  /** what becomes of it in the journal */
  readonly decision: NetworkDecision;
  /** HTTP status for the guest */
  readonly status: number;

  constructor(
    target: ProxyTarget,
    reason: string,
    facts: { readonly action?: "denied" | "failed"; readonly status?: number } = {},
  ) {
    super(reason);
    const { host, port, protocol } = target;
    const action = facts.action ?? "denied";
    this.decision = { action, protocol, host: printableHost(host), port, reason };
    this.status = facts.status ?? (action === "failed" ? 502 : 403);
  }

  /** What the guest gets: a TLS alert, or an HTTP response that says why. */
  toBytes(speech: "http" | "tls"): Uint8Array<ArrayBuffer> {
    if (speech === "tls") return TLS_ACCESS_DENIED;
    const body = `Paddock: ${describeDecision(this.decision)}\n`;
    const head = `HTTP/1.1 ${this.status} ${this.decision.action}\r\nContent-Type: text/plain\r\n` +
      `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n`;
    return new TextEncoder().encode(head + body);
  }
}
