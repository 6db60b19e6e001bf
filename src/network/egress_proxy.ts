/**
 * The proxy between a guest and the world. It takes connections for names: TLS by the name in the ClientHello,
 * plain HTTP by its Host, and CONNECT; decides by the policy, resolves the name itself, and carries bytes. What
 * address the guest thought to connect to plays no part.
 *
 * @module
 */

import { parseClientHello } from "./client_hello.ts";
import { ConnectionStart } from "./connection_start.ts";
import type { EgressPolicy } from "./egress_policy.ts";
import { isIpLiteral, normalizeName } from "./egress_rule.ts";
import { type Authority, encodeRequestHead, parseRequestHead, type RequestHead } from "./http_head.ts";
import { type OnNetworkDecision, printableHost } from "./network_decision.ts";
import { connectOutside, type Outside, OutsideError } from "./outside.ts";
import { ProxyRefusal, type ProxyTarget } from "./proxy_refusal.ts";
import { LINK } from "./ruleset.ts";
import { closeQuietly, splice, type SpliceLimits, writeAll } from "./splice.ts";

const TLS_HANDSHAKE = 22;
const TUNNEL_OPEN = new TextEncoder().encode("HTTP/1.1 200 Connection established\r\n\r\n");
/** Where nothing says whom a connection is for. */
const NO_NAME = "unnamed";
const DEFAULT_LIMITS: ProxyLimits = { connections: 128, maxBytes: 8 * 1024 ** 3, idleTimeoutMs: 300_000 };

/** What a guest can make the host spend. */
export interface ProxyLimits extends SpliceLimits {
  /** connections at once */
  readonly connections: number;
}

/** Options of {@linkcode EgressProxy}. */
export interface ProxyOptions {
  readonly policy: EgressPolicy;
  readonly outside: Outside;
  readonly onDecision: OnNetworkDecision;
  readonly limits?: Partial<ProxyLimits>;
}

/** A CONNECT that was let through, and its connection to the other side. */
interface Tunnel {
  readonly name: string;
  readonly upstream: Deno.Conn;
}

/** A proxy for one guest. */
export class EgressProxy {
  readonly #options: ProxyOptions;
  readonly #limits: ProxyLimits;
  readonly #open = new Set<Deno.Conn>();
  #servedCount = 0;

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
  }

  /** Serves a connection that the guest made to `port` of a name; undefined: to the proxy as such. Never throws. */
  async serve(connection: Deno.Conn, port: number | undefined): Promise<void> {
    if (this.#servedCount >= this.#limits.connections) {
      const target = {
        protocol: port === undefined ? "connect" : "tls",
        host: NO_NAME,
        port: port ?? LINK.proxyPort,
      } as const;
      this.#options.onDecision(new ProxyRefusal(target, "too many connections at once").decision);
      return connection.close();
    }
    this.#servedCount += 1;
    this.#open.add(connection);
    const start = new ConnectionStart(connection);
    try {
      await (port === undefined ? this.#serveProxyRequest(start) : this.#serveTransparent(start, port));
    } catch {
      // The guest went away in the middle of something; there is nobody to tell.
    } finally {
      this.#servedCount -= 1;
      this.#open.delete(connection);
      closeQuietly(connection);
    }
  }

  /** Cuts all connections. */
  close(): void {
    for (const connection of this.#open) closeQuietly(connection);
  }

  async #serveTransparent(start: ConnectionStart, port: number): Promise<void> {
    const first = await start.read((bytes) => bytes.length > 0 ? { kind: "any" } : { kind: "incomplete" });
    if (first === undefined) return;
    if (start.bytes[0] === TLS_HANDSHAKE) {
      await this.#answering(start, "tls", () => this.#carryTls(start, port));
    } else await this.#answering(start, "http", () => this.#carryHttp(start, port));
  }

  async #serveProxyRequest(start: ConnectionStart): Promise<void> {
    await this.#answering(start, "http", async () => {
      const head = await this.#readHead(start, LINK.proxyPort);
      if (head === undefined) return;
      if (head.tunnel !== undefined) return await this.#carryTunnel(start, head, head.tunnel);
      if (!head.isAbsolute) {
        const target = {
          protocol: "http",
          host: head.authority.host,
          port: head.authority.port ?? 80,
        } as const;
        throw new ProxyRefusal(target, "a request to the proxy needs a whole URL", { status: 400 });
      }
      await this.#forward(start, head, head.authority.port ?? 80);
    });
  }

  /** Does something with a connection; a refusal becomes a decision and is told to the guest in its own words. */
  async #answering(
    start: ConnectionStart,
    speech: "http" | "tls",
    action: () => Promise<void>,
  ): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof ProxyRefusal)) throw error;
      this.#options.onDecision(error.decision);
      await writeAll(start.connection, error.toBytes(speech));
    }
  }

  async #carryTls(start: ConnectionStart, port: number, tunnel?: Tunnel): Promise<void> {
    const unknown: ProxyTarget = { protocol: "tls", host: tunnel?.name ?? NO_NAME, port };
    const hello = await start.read(parseClientHello);
    if (hello === undefined) throw new ProxyRefusal(unknown, "no whole TLS ClientHello came");
    if (hello.kind === "bad") {
      throw new ProxyRefusal(unknown, `TLS ClientHello cannot be read: ${hello.reason}`);
    }
    if (hello.serverName === undefined) throw new ProxyRefusal(unknown, "TLS without a server name");
    const target: ProxyTarget = { protocol: "tls", host: hello.serverName, port };
    const name = this.#allowedName(target);
    if (tunnel !== undefined && name !== tunnel.name) {
      throw new ProxyRefusal(target, `TLS server name differs from CONNECT ${tunnel.name}`);
    }
    if (hello.isEncrypted) {
      throw new ProxyRefusal(
        target,
        "encrypted ClientHello: the name inside cannot be checked; turn ECH off in the client",
      );
    }
    const upstream = tunnel?.upstream ?? await this.#connect(target, name);
    await this.#splice(start, upstream, target);
  }

  async #carryHttp(start: ConnectionStart, port: number, tunnel?: Tunnel): Promise<void> {
    const head = await this.#readHead(start, port);
    if (head === undefined) return;
    const { host, port: named } = head.authority;
    const target: ProxyTarget = { protocol: "http", host, port };
    if (head.tunnel !== undefined) {
      throw new ProxyRefusal(target, "CONNECT is for the proxy's port only", { status: 400 });
    }
    if (named !== undefined && named !== port) throw new ProxyRefusal(target, `request names port ${named}`);
    if (tunnel !== undefined && this.#allowedName(target) !== tunnel.name) {
      throw new ProxyRefusal(target, `Host differs from CONNECT ${tunnel.name}`);
    }
    await this.#forward(start, head, port, tunnel);
  }

  async #carryTunnel(start: ConnectionStart, head: RequestHead, { host, port }: Authority): Promise<void> {
    const target: ProxyTarget = { protocol: "connect", host, port: port ?? 443 };
    const name = this.#allowedName(target);
    const upstream = await this.#connect(target, name);
    const tunnel = { name, upstream };
    try {
      start.drop(head.headBytes);
      await writeAll(start.connection, TUNNEL_OPEN);
      if (target.port === 443) await this.#answering(start, "tls", () => this.#carryTls(start, 443, tunnel));
      else if (target.port === 80) {
        await this.#answering(start, "http", () => this.#carryHttp(start, 80, tunnel));
      } // What is spoken at other ports is not known: the server may be the first to speak.
      else await this.#splice(start, upstream, target);
    } finally {
      closeQuietly(upstream);
    }
  }

  async #forward(start: ConnectionStart, head: RequestHead, port: number, tunnel?: Tunnel): Promise<void> {
    const target: ProxyTarget = { protocol: "http", host: head.authority.host, port };
    const upstream = tunnel?.upstream ?? await this.#connect(target, this.#allowedName(target));
    start.drop(head.headBytes);
    const body = start.bytes.slice(0, head.bodyBytes);
    start.drop(start.bytes.length);
    const guestBytes = head.bodyBytes - body.length;
    await this.#splice(start, upstream, target, { first: [encodeRequestHead(head), body], guestBytes });
  }

  async #readHead(start: ConnectionStart, port: number): Promise<RequestHead | undefined> {
    const parsed = await start.read(parseRequestHead);
    if (parsed === undefined && start.bytes.length === 0) return undefined;
    const target: ProxyTarget = { protocol: "http", host: NO_NAME, port };
    if (parsed === undefined) throw new ProxyRefusal(target, "no whole HTTP request came", { status: 408 });
    if (parsed.kind === "head") return parsed.head;
    throw new ProxyRefusal(target, `HTTP request cannot be read: ${parsed.reason}`, {
      status: parsed.status,
    });
  }

  /** The target's name, if the policy lets it through. */
  #allowedName(target: ProxyTarget): string {
    if (isIpLiteral(target.host)) {
      throw new ProxyRefusal(target, "addresses cannot be reached, only allowed names");
    }
    const name = normalizeName(target.host);
    if (name === undefined) throw new ProxyRefusal(target, "not a public host name");
    const refusal = this.#options.policy.refusal(name, target.port);
    if (refusal !== undefined) throw new ProxyRefusal(target, refusal);
    return name;
  }

  async #connect(target: ProxyTarget, name: string): Promise<Deno.Conn> {
    try {
      return await connectOutside(this.#options.outside, name, target.port);
    } catch (error) {
      if (!(error instanceof OutsideError)) throw error;
      throw new ProxyRefusal(target, error.message, { action: error.isRefusal ? "denied" : "failed" });
    }
  }

  async #splice(
    start: ConnectionStart,
    upstream: Deno.Conn,
    target: ProxyTarget,
    request: { readonly first: readonly Uint8Array[]; readonly guestBytes?: number } = {
      first: [start.bytes],
    },
  ): Promise<void> {
    const startedAt = performance.now();
    this.#open.add(upstream);
    const { bytesToHost, bytesToGuest, cut } = await splice(start.connection, upstream, {
      ...this.#limits,
      ...request,
    });
    this.#open.delete(upstream);
    this.#options.onDecision({
      action: "allowed",
      protocol: target.protocol,
      host: printableHost(target.host),
      port: target.port,
      ...(cut === undefined
        ? {}
        : { reason: cut === "silent" ? "cut after a long silence" : "cut: too many bytes" }),
      bytesToHost,
      bytesToGuest,
      durationMs: Math.round(performance.now() - startedAt),
    });
  }
}
