/**
 * The head of a plain HTTP request (RFC 9112), read strictly: a proxy that understands a request differently from
 * the server behind it lets a second one through. What is in doubt is refused.
 *
 * @module
 */

import { HOP_HEADERS } from "./hop_headers.ts";

/** Longest head that is read. */
export const MAX_HEAD_BYTES = 32 * 1024;
const MAX_HEADERS = 200;
/** RFC 9110 §5.6.2. */
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** Visible ASCII, spaces, tabs, and bytes over 127: RFC 9110 §5.5. */
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const REQUEST_LINE = /^([A-Z][A-Z-]{0,31}) ([\x21-\x7e]+) HTTP\/1\.([01])$/;
/** `uri-host [ ":" port ]`: what is allowed in a host is decided elsewhere. */
const AUTHORITY = /^([^:@/?#\s]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?$/;
/** Headers that are for this hop, or that would have the connection upgraded. */
const DROPPED_HEADERS: ReadonlySet<string> = new Set([...HOP_HEADERS, "http2-settings"]);

/** A host with its port, if one was given. */
export interface Authority {
  readonly host: string;
  readonly port: number | undefined;
}

/** A request's head. */
export interface RequestHead {
  readonly method: string;
  /** target of a CONNECT (undefined: another method) */
  readonly tunnel: Authority | undefined;
  /** where the request is for */
  readonly authority: Authority;
  /** target in origin form */
  readonly path: string;
  /** names as they came, with their values, without those for this hop */
  readonly headers: readonly (readonly [string, string])[];
  /** length of the body in bytes */
  readonly bodyBytes: number;
  /** length of the head in bytes */
  readonly headBytes: number;
  /** true: the target came with a scheme and a host, as for a proxy */
  readonly isAbsolute: boolean;
}

/** What was found in the bytes so far. */
export type ParsedHead =
  | { readonly kind: "incomplete" }
  | { readonly kind: "head"; readonly head: RequestHead }
  | { readonly kind: "bad"; readonly status: number; readonly reason: string };

class BadHead extends Error {
  readonly status: number;

  constructor(reason: string, status = 400) {
    super(reason);
    this.status = status;
  }
}

/** Reads `host` or `host:port`; undefined: it is not that. */
export function parseAuthority(text: string): Authority | undefined {
  const [, host, port] = AUTHORITY.exec(text) ?? [];
  if (host === undefined || Number(port ?? 1) > 65535 || Number(port ?? 1) < 1) return undefined;
  return { host: host.toLowerCase().replace(/\.$/, ""), port: port === undefined ? undefined : Number(port) };
}

function checkedAuthority(text: string, what: string): Authority {
  const authority = parseAuthority(text);
  if (authority === undefined) throw new BadHead(`${what} is malformed`);
  return authority;
}

function parseHeaders(lines: readonly string[]): [string, string][] {
  if (lines.length > MAX_HEADERS) throw new BadHead("it has too many headers", 431);
  return lines.map((line) => {
    const colon = line.indexOf(":");
    const [name, value] = [line.slice(0, colon), line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "")];
    // Folded lines (RFC 9112 §5.2) and spaces before the colon (§5.1) end up here.
    if (colon < 1 || !TOKEN.test(name) || !FIELD_VALUE.test(value)) {
      throw new BadHead("a header is malformed");
    }
    return [name, value];
  });
}

function valuesOf(headers: readonly (readonly [string, string])[], name: string): string[] {
  return headers.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
}

function bodyLength(headers: readonly (readonly [string, string])[]): number {
  // RFC 9112 §6.1: two ways to say a length are how requests are smuggled; so only the simple one is taken.
  if (valuesOf(headers, "transfer-encoding").length > 0) {
    throw new BadHead("its body has no length (chunked); only TLS carries such requests", 411);
  }
  const [length, ...others] = valuesOf(headers, "content-length");
  if (others.length > 0 || !/^[0-9]{1,15}$/.test(length ?? "0")) throw new BadHead("its length is malformed");
  return Number(length ?? 0);
}

function readTarget(
  target: string,
  host: Authority | undefined,
): Pick<RequestHead, "authority" | "path" | "isAbsolute"> {
  if (target.startsWith("/") || target === "*") {
    if (host === undefined) throw new BadHead("it names no host");
    return { authority: host, path: target, isAbsolute: false };
  }
  const [, authorityText = "", rest = ""] = /^http:\/\/([^/?#]*)([/?].*)?$/i.exec(target) ?? [];
  if (authorityText === "") throw new BadHead("its target is not a path or an http URL");
  const authority = checkedAuthority(authorityText, "its target");
  // RFC 9112 §3.2.2: the server would take the target's host, another hop the header's.
  if (host !== undefined && (host.host !== authority.host || (host.port ?? 80) !== (authority.port ?? 80))) {
    throw new BadHead(`its target ${authority.host} and its Host ${host.host} differ`);
  }
  return { authority, path: rest.startsWith("/") ? rest : `/${rest}`, isAbsolute: true };
}

function readHead(text: string): RequestHead {
  const [requestLine = "", ...lines] = text.split("\r\n");
  const [, method, target, minor] = REQUEST_LINE.exec(requestLine) ?? [];
  if (method === undefined || target === undefined) throw new BadHead("its first line is malformed");
  const headers = parseHeaders(lines);
  const hosts = valuesOf(headers, "host");
  // RFC 9112 §3.2.
  if (hosts.length > 1 || (hosts.length === 0 && minor === "1")) {
    throw new BadHead("it does not have one Host");
  }
  const host = hosts[0] === undefined ? undefined : checkedAuthority(hosts[0], "its Host");
  const tunnel = method === "CONNECT" ? checkedAuthority(target, "its target") : undefined;
  return {
    method,
    tunnel,
    ...(tunnel === undefined ? readTarget(target, host) : { authority: tunnel, path: "", isAbsolute: true }),
    headers: headers.filter(([name]) => !DROPPED_HEADERS.has(name.toLowerCase())),
    bodyBytes: bodyLength(headers),
    headBytes: text.length + 4,
  };
}

/** Reads the start of a connection. */
export function parseRequestHead(bytes: Uint8Array): ParsedHead {
  // One character a byte: nothing is lost on the way to the server.
  const text = Array.from(
    { length: Math.ceil(Math.min(bytes.length, MAX_HEAD_BYTES) / 4096) },
    (_, index) =>
      String.fromCharCode(...bytes.subarray(index * 4096, Math.min((index + 1) * 4096, MAX_HEAD_BYTES))),
  ).join("");
  const end = text.indexOf("\r\n\r\n");
  if (end === -1) {
    if (bytes.length >= MAX_HEAD_BYTES) return { kind: "bad", status: 431, reason: "its head is too long" };
    return { kind: "incomplete" };
  }
  try {
    return { kind: "head", head: readHead(text.slice(0, end)) };
  } catch (error) {
    if (error instanceof BadHead) return { kind: "bad", status: error.status, reason: error.message };
    throw error;
  }
}

/** The head as it goes to the server: its own form, and an end of the connection after one request. */
export function encodeRequestHead(head: RequestHead): Uint8Array<ArrayBuffer> {
  const { authority, headers, method, path } = head;
  const host = authority.port === undefined ? authority.host : `${authority.host}:${authority.port}`;
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `Host: ${host}`,
    ...headers.filter(([name]) => name.toLowerCase() !== "host").map(([name, value]) => `${name}: ${value}`),
    "Connection: close",
  ];
  return Uint8Array.from(`${lines.join("\r\n")}\r\n\r\n`, (character) => character.charCodeAt(0));
}
