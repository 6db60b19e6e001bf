/**
 * A reverse proxy to one port of a guest: HTTP requests and WebSockets, streamed in both directions. Deno's own client
 * speaks to a Unix socket, behind which each connection is one to the guest.
 *
 * @module
 */

import { fromPortHeaders, toPortHeaders, toPortProtocols } from "../network/port_headers.ts";
import { closeQuietly, splice, writeAll } from "../network/splice.ts";
import type { GuestStream } from "./guest_client.ts";
import { SessionError } from "./session_error.ts";
import { joinSockets } from "./socket_pair.ts";

/** Connections at once. */
const MAX_CONNECTIONS = 256;
/** Longest silence of a connection, and of a server before it begins to answer, in `ms`. */
const IDLE_LIMIT_MS = 60 * 60_000;
const HEAD_LIMIT_MS = 5 * 60_000;
/** Longest body that is sent with its length; a longer one, and one that does not say it, goes in chunks. */
const MAX_WHOLE_BYTES = 1024 * 1024;
const MAX_FIRST_LINE_BYTES = 64 * 1024;
/** What Deno's client believes to ask. */
const ORIGIN = "http://localhost";

/** Options of {@linkcode PortProxy}. */
export interface PortProxyOptions {
  readonly port: number;
  /** path of the socket that is made */
  readonly socketPath: string;
  /** connects to the port in the guest */
  readonly connect: () => Promise<GuestStream>;
}

// Deno takes more here than the DOM's types, which are loaded too, know of
const ClientSocket = WebSocket as unknown as new (
  url: string,
  options: { readonly client: Deno.HttpClient; readonly headers: Headers; readonly protocols: string[] },
) => WebSocket;

/** The proxy to one port. */
export class PortProxy implements Disposable {
  readonly #options: PortProxyOptions;
  readonly #listener: Deno.UnixListener;
  readonly #client: Deno.HttpClient;
  readonly #open = new Set<Deno.Conn>();
  #lastFailure = "";

  constructor(options: PortProxyOptions) {
    this.#options = options;
    this.#listener = Deno.listen({ transport: "unix", path: options.socketPath });
    this.#client = Deno.createHttpClient({
      proxy: { transport: "unix", path: options.socketPath },
      // Each request has a connection of its own: a guest's server may have gone meanwhile
      poolMaxIdlePerHost: 0,
      http2: false,
      // The port is in the header only: of URLs with some ports, web clients want to know nothing
      allowHost: true,
    });
    void this.#accept();
  }

  /** Makes the request at `path`, with its query, of the server; `prefix` is what stands before it in ours. */
  async forward(request: Request, path: string, prefix: string): Promise<Response> {
    const { port } = this.#options;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), HEAD_LIMIT_MS);
    try {
      const response = await fetch(ORIGIN + path, {
        method: request.method,
        headers: toPortHeaders(request.headers, port),
        body: await bodyOf(request),
        redirect: "manual",
        client: this.#client,
        signal: AbortSignal.any([late.signal, request.signal]),
      });
      const headers = fromPortHeaders(response.headers, { port, prefix, path });
      const { status, body } = response;
      const hasBody = body !== null && status !== 204 && status !== 205 && status !== 304;
      return new Response(hasBody ? body : null, { status, headers });
    } catch (cause) {
      throw this.#failure(cause);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Carries a WebSocket to the server; `path` as for a request. `ownProtocol` is answered where the server chose none:
   * browsers want one of those that they offer.
   */
  async upgrade(request: Request, path: string, ownProtocol: string | undefined): Promise<Response> {
    const { port } = this.#options;
    const protocols = toPortProtocols(request.headers);
    const headers = toPortHeaders(request.headers, port);
    const inner = new ClientSocket(`ws://localhost${path}`, {
      client: this.#client,
      headers,
      protocols,
    });
    return await joinSockets(inner, () => {
      const protocol = inner.protocol || ownProtocol;
      const options = protocol === undefined ? {} : { protocol };
      return Deno.upgradeWebSocket(request, { idleTimeout: 0, ...options });
    }).catch((cause) => {
      throw this.#failure(cause);
    });
  }

  /** Cuts all connections. */
  [Symbol.dispose](): void {
    this.#listener.close();
    this.#client.close();
    for (const conn of this.#open) closeQuietly(conn);
  }

  #failure(cause: unknown): SessionError {
    const { port } = this.#options;
    const why = this.#lastFailure || (cause instanceof Error ? cause.message : String(cause));
    return new SessionError(
      "bad_gateway",
      `Port ${port} of the session gave no answer: ${why.slice(0, 300)}`,
      {
        cause,
      },
    );
  }

  async #accept(): Promise<void> {
    try {
      for await (const conn of this.#listener) void this.#carry(conn);
    } catch {
      // The listener was closed: that is the end
    }
  }

  async #carry(conn: Deno.Conn): Promise<void> {
    if (this.#open.size >= MAX_CONNECTIONS) return conn.close();
    this.#open.add(conn);
    try {
      const guest = await this.#options.connect();
      this.#lastFailure = "";
      this.#open.add(guest.conn);
      await writeAll(conn, guest.first);
      const start = await readStart(conn);
      await splice(conn, guest.conn, { first: [start], maxBytes: Infinity, idleTimeoutMs: IDLE_LIMIT_MS });
      this.#open.delete(guest.conn);
    } catch (error) {
      this.#lastFailure = error instanceof Error ? error.message : String(error);
    } finally {
      closeQuietly(conn);
      this.#open.delete(conn);
    }
  }
}

/**
 * The first bytes of a request, for the server itself: Deno's client takes what is behind its socket for a proxy, and
 * names the host before each path.
 */
async function readStart(conn: Deno.Conn): Promise<Uint8Array> {
  let bytes = new Uint8Array();
  const chunk = new Uint8Array(MAX_FIRST_LINE_BYTES);
  for (let lineEnd = -1; lineEnd === -1; lineEnd = bytes.indexOf(0x0a)) {
    const count = bytes.length < MAX_FIRST_LINE_BYTES ? await conn.read(chunk) : null;
    if (count === null) break;
    bytes = new Uint8Array([...bytes, ...chunk.subarray(0, count)]);
  }
  const target = bytes.indexOf(0x20) + 1;
  const isAbsolute =
    new TextDecoder("latin1").decode(bytes.subarray(target, target + ORIGIN.length)) === ORIGIN;
  if (!isAbsolute) return bytes;
  return new Uint8Array([...bytes.subarray(0, target), ...bytes.subarray(target + ORIGIN.length)]);
}

/** A short body as bytes: not all servers take one that does not say its length. */
async function bodyOf(request: Request): Promise<BodyInit | null> {
  const length = Number(request.headers.get("content-length") ?? Infinity);
  return length <= MAX_WHOLE_BYTES && request.body !== null ? await request.bytes() : request.body;
}
