/**
 * What became of one attempt of the guest to reach something: a plain fact that goes through the journal, the
 * task's events and the command line unchanged.
 *
 * @module
 */

import { isIP } from "node:net";

/** What the guest spoke; `ip`: it sent a packet to an address. */
export type NetworkProtocol = "dns" | "http" | "tls" | "connect" | "ip" | "vsock";

/** One decision. */
export interface NetworkDecision {
  /** `failed`: it was allowed, and the other side did not answer */
  readonly action: "allowed" | "denied" | "failed";
  readonly protocol: NetworkProtocol;
  /** name or address, made printable */
  readonly host: string;
  /** port (null: there is none, or it is not known yet) */
  readonly port: number | null;
  /** why it was denied or failed, as the end of a sentence */
  readonly reason?: string;
  /** bytes from the guest to the other side, and back */
  readonly bytesToHost?: number;
  readonly bytesToGuest?: number;
  readonly durationMs?: number;
}

/** Told of each decision. */
export type OnNetworkDecision = (decision: NetworkDecision) => void;

/** `VMADDR_CID_HOST` */
const VSOCK_HOST = 2;
const MAX_HOST_LENGTH = 255;

/** Text of a guest as it may stand in a decision: printable ASCII, shortened; anything else as `\ddd`. */
export function printableHost(text: string): string {
  const escaped = text.slice(0, MAX_HOST_LENGTH).replace(
    /[^\x21-\x7e]|\\/g,
    (character) => `\\${String(character.charCodeAt(0)).padStart(3, "0")}`,
  );
  return escaped.slice(0, MAX_HOST_LENGTH);
}

/** The decision about a vsock address that is not for the guest. */
export function vsockDenial(cid: number, port: number): NetworkDecision {
  const reason = cid === VSOCK_HOST
    ? "vsock: this port of the host is not the guest's"
    : "vsock reaches nothing but the host";
  return { action: "denied", protocol: "vsock", host: `vsock(${cid})`, port, reason };
}

/** One line about a decision: `denied: example.com:443 (not in allow-list; allow with --allow example.com)`. */
export function describeDecision(decision: NetworkDecision): string {
  const { action, host, port, reason } = decision;
  const shown = isIP(host) === 6 && port !== null ? `[${host}]` : host;
  const target = port === null ? shown : `${shown}:${port}`;
  return `${action}: ${target}${reason === undefined ? "" : ` (${reason})`}`;
}
