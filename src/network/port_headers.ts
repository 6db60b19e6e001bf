/**
 * Which headers cross the reverse proxy to a server in a guest. That server learns nothing of who asks, and what it
 * answers has no rights at our origin: it is another's word under our address.
 *
 * @module
 */

import { HOP_HEADERS } from "./hop_headers.ts";

/** What is ours, or says who asks; what the client that is used here says by itself. */
const NOT_FOR_GUESTS =
  /^(authorization|cookie|host|referer|content-length|expect|accept-encoding|forwarded|via|x-real-ip|x-forwarded-.*|x-paddock-.*|sec-websocket-.*)$/;

/** What would act on our origin, or in its name. */
const NOT_FROM_GUESTS =
  /^(set-cookie2?|www-authenticate|strict-transport-security|public-key-pins.*|clear-site-data|service-worker-allowed|alt-svc|nel|report-to|reporting-endpoints|refresh|link|content-security-policy.*|cross-origin-.*|access-control-.*|origin-agent-cluster|permissions-policy|content-length|content-encoding|location)$/;

/** Subprotocols of our own. */
const OWN_PROTOCOL = /^paddock(\.|$)/;

/** A page of a guest's may run, but as nobody: without our origin, its storage, or the window around it. */
const SANDBOX =
  "sandbox allow-scripts allow-forms allow-modals allow-popups allow-downloads; frame-ancestors 'self'";

function namedByConnection(headers: Headers): Set<string> {
  return new Set((headers.get("connection") ?? "").split(",").map((name) => name.trim().toLowerCase()));
}

function passed(from: Headers, refused: RegExp): Headers {
  const named = namedByConnection(from);
  const headers = new Headers();
  for (const [name, value] of from) {
    if (!HOP_HEADERS.has(name) && !named.has(name) && !refused.test(name)) headers.append(name, value);
  }
  return headers;
}

/** A server's own address, as it knows it. */
function originOf(port: number): string {
  return `http://localhost:${port}`;
}

/** Subprotocols that a client asks a guest's server for: ours, which may carry a token, are not among them. */
export function toPortProtocols(fromClient: Headers): string[] {
  const asked = (fromClient.get("sec-websocket-protocol") ?? "").split(",").map((name) => name.trim());
  return asked.filter((name) => name !== "" && !OWN_PROTOCOL.test(name));
}

/** Headers of a request as a guest's server at `port` gets them. */
export function toPortHeaders(fromClient: Headers, port: number): Headers {
  const headers = passed(fromClient, NOT_FOR_GUESTS);
  headers.set("host", `localhost:${port}`);
  // Bytes pass as they are; and servers look at whether the page that asks is their own
  headers.set("accept-encoding", "identity");
  if (headers.has("origin")) headers.set("origin", originOf(port));
  return headers;
}

/** Where a redirection of the server at `port` leads for those who reach it below `prefix`. */
function toOurLocation(location: string, { port, prefix, path }: PortPlace): string | undefined {
  if (!URL.canParse(location, originOf(port) + path)) return undefined;
  const target = new URL(location, originOf(port) + path);
  const isLoopback = /^(localhost|127\.[0-9.]+|\[::1\])$/.test(target.hostname);
  if (!isLoopback) return target.href;
  // The client's own loopback interface is no guest's; and the path was resolved above: no `..` leaves the prefix
  const isOwn = target.protocol === "http:" && (target.port || "80") === String(port);
  return isOwn ? prefix + target.pathname + target.search + target.hash : undefined;
}

/** Where a server is seen from outside. */
export interface PortPlace {
  readonly port: number;
  /** path that stands before those of the server, without a slash at its end */
  readonly prefix: string;
  /** path that was asked for, as the server knows it */
  readonly path: string;
}

/** Headers of the answer of a guest's server as a client gets them. */
export function fromPortHeaders(fromGuest: Headers, place: PortPlace): Headers {
  const headers = passed(fromGuest, NOT_FROM_GUESTS);
  const location = fromGuest.get("location");
  const ours = location === null ? undefined : toOurLocation(location, place);
  if (ours !== undefined) headers.set("location", ours);
  headers.set("content-security-policy", SANDBOX);
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "no-referrer");
  return headers;
}
