/**
 * Takes connections for an HTTP server that has no bounds of its own on them: Deno's waits for ever for a request's
 * headers, takes any number of connections, and does not give up a client that never reads. The server itself listens on a
 * port of the loopback interface that answers only what comes through here; bytes are carried as they are, so that HTTP
 * is understood in one place. The server says which connections have a request (`track()`); all others are waiting for
 * one, and do not wait for long.
 *
 * @module
 */

/** Bounds on connections. */
export interface FrontLimits {
  /** connections at once */
  readonly maxConnections: number;
  /** of these, from one address */
  readonly maxPerAddress: number;
  /** time in `ms` for a TLS handshake, or for a request's headers from their first byte on */
  readonly headMs: number;
  /** time in `ms` that a connection may wait for its next request */
  readonly idleMs: number;
  /** time in `ms` in which a client must read something of what waits for it */
  readonly stallMs: number;
}

/** Bounds where nothing else is said. */
export const FRONT_LIMITS: FrontLimits = {
  maxConnections: 1000,
  maxPerAddress: 400,
  headMs: 15_000,
  idleMs: 75_000,
  stallMs: 120_000,
};

/** How a front door is made. */
export interface FrontDoorOptions {
  readonly hostname: string;
  readonly port: number;
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  /** port of loopback that the server listens on */
  readonly serverPort: number;
  readonly limits?: Partial<FrontLimits>;
}

const CHUNK_BYTES = 64 * 1024;
const LOOK_MS = 250;
/** How long a client may go on sending to a server that is done, in `ms`. */
const LINGER_MS = 1000;
/** Pause after a connection could not be taken, in `ms`: there may be no descriptors left. */
const ACCEPT_PAUSE_MS = 100;

interface Connection {
  readonly client: Deno.Conn;
  readonly address: string;
  server: Deno.Conn | undefined;
  /** requests that are being answered */
  requestCount: number;
  /** it is a WebSocket, or anything else that HTTP's rules do not bind any more */
  isUpgraded: boolean;
  /** it ends with the answer to the request that it has */
  isLast: boolean;
  /** since when it waits for a request */
  waitsSinceMs: number;
  /** when the first byte of the next request came (undefined: none has) */
  headSinceMs: number | undefined;
  /** since when something waits to be read by the client (undefined: nothing does) */
  writesSinceMs: number | undefined;
  /** since when the server is done with it (undefined: it is not) */
  endsSinceMs: number | undefined;
}

/** A listening front door. */
export class FrontDoor implements AsyncDisposable {
  readonly #listener: Deno.Listener;
  readonly #serverPort: number;
  readonly #limits: FrontLimits;
  readonly #all = new Set<Connection>();
  readonly #byServerPort = new Map<number, Connection>();
  readonly #perAddress = new Map<string, number>();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #accepting: Promise<void>;
  #isClosed = false;

  /** Listens at once. */
  constructor({ hostname, port, tls, serverPort, limits }: FrontDoorOptions) {
    this.#listener = tls === undefined
      ? Deno.listen({ hostname, port })
      : Deno.listenTls({ hostname, port, ...tls, alpnProtocols: ["http/1.1"] });
    this.#serverPort = serverPort;
    this.#limits = { ...FRONT_LIMITS, ...limits };
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    this.#accepting = this.#acceptAll();
  }

  /** port that it listens on */
  get port(): number {
    return (this.#listener.addr as Deno.NetAddr).port;
  }

  /** connections that there are */
  get connectionCount(): number {
    return this.#all.size;
  }

  /** Address of the client whose connection comes from this port of loopback (undefined: it did not come through here). */
  addressOf(serverSidePort: number): string | undefined {
    return this.#byServerPort.get(serverSidePort)?.address;
  }

  /** Says that a connection has a request; `completed` settles when it is answered. */
  track(serverSidePort: number, completed: Promise<void>): void {
    const connection = this.#byServerPort.get(serverSidePort);
    if (connection === undefined) return;
    connection.requestCount += 1;
    connection.headSinceMs = undefined;
    const end = (): void => {
      connection.requestCount -= 1;
      connection.waitsSinceMs = performance.now();
      if (connection.isLast) connection.endsSinceMs ??= connection.waitsSinceMs;
    };
    completed.then(end, end);
  }

  /** Says that a connection has become a WebSocket. */
  markUpgraded(serverSidePort: number): void {
    const connection = this.#byServerPort.get(serverSidePort);
    if (connection !== undefined) connection.isUpgraded = true;
  }

  /** Says that a connection is of no use after this answer: what is left of its request will not be read. */
  endAfterAnswer(serverSidePort: number): void {
    const connection = this.#byServerPort.get(serverSidePort);
    if (connection !== undefined) connection.isLast = true;
  }

  /** Takes no more connections; those that there are go on. */
  stopListening(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#listener.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopListening();
    clearInterval(this.#timer);
    for (const connection of this.#all) this.#close(connection);
    await this.#accepting;
  }

  async #acceptAll(): Promise<void> {
    while (!this.#isClosed) {
      try {
        const client = await this.#listener.accept();
        void this.#serve(client).catch(() => {/* a connection that breaks is nobody's failure */});
      } catch {
        if (!this.#isClosed) await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE_MS));
      }
    }
  }

  async #serve(client: Deno.Conn): Promise<void> {
    const address = (client.remoteAddr as Deno.NetAddr).hostname;
    const fromThere = this.#perAddress.get(address) ?? 0;
    if (this.#all.size >= this.#limits.maxConnections || fromThere >= this.#limits.maxPerAddress) {
      return client.close();
    }
    const now = performance.now();
    const connection: Connection = {
      client,
      address,
      server: undefined,
      requestCount: 0,
      isUpgraded: false,
      isLast: false,
      waitsSinceMs: now,
      headSinceMs: now,
      writesSinceMs: undefined,
      endsSinceMs: undefined,
    };
    this.#all.add(connection);
    this.#perAddress.set(address, fromThere + 1);
    try {
      // A handshake is done here, in its time, and not at the first read
      if ("handshake" in client) await (client as Deno.TlsConn).handshake();
      await this.#carry(connection);
    } finally {
      this.#close(connection);
      this.#all.delete(connection);
      const left = (this.#perAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#perAddress.set(address, left);
      else this.#perAddress.delete(address);
    }
  }

  async #carry(connection: Connection): Promise<void> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#serverPort });
    connection.server = server;
    const { port } = server.localAddr as Deno.NetAddr;
    this.#byServerPort.set(port, connection);
    try {
      server.setNoDelay(true);
      await Promise.all([this.#toServer(connection, server), this.#toClient(connection, server)]);
    } finally {
      this.#byServerPort.delete(port);
    }
  }

  async #toServer(connection: Connection, server: Deno.Conn): Promise<void> {
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (;;) {
      const count = await connection.client.read(chunk);
      if (count === null) return connection.endsSinceMs === undefined ? await server.closeWrite() : undefined;
      if (connection.endsSinceMs !== undefined) continue;
      if (connection.requestCount === 0) connection.headSinceMs ??= performance.now();
      try {
        await writeAll(server, chunk.subarray(0, count));
      } catch (error) {
        // Its answer may be there before it read everything
        if (!(error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset)) {
          throw error;
        }
      }
    }
  }

  async #toClient(connection: Connection, server: Deno.Conn): Promise<void> {
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (;;) {
      const count = await server.read(chunk);
      if (count === null) {
        connection.endsSinceMs ??= performance.now();
        return await connection.client.closeWrite();
      }
      for (let at = 0; at < count;) {
        connection.writesSinceMs = performance.now();
        at += await connection.client.write(chunk.subarray(at, count));
      }
      connection.writesSinceMs = undefined;
    }
  }

  #look(): void {
    const now = performance.now();
    for (const connection of this.#all) {
      if (this.#isOverdue(connection, now)) this.#close(connection);
    }
  }

  #isOverdue(connection: Connection, now: number): boolean {
    const { writesSinceMs, headSinceMs, waitsSinceMs, endsSinceMs, requestCount, isUpgraded } = connection;
    // What still comes is read for a while: a reset could overtake the answer
    if (endsSinceMs !== undefined && now - endsSinceMs > LINGER_MS) return true;
    if (writesSinceMs !== undefined && now - writesSinceMs > this.#limits.stallMs) return true;
    if (requestCount > 0 || isUpgraded) return false;
    if (headSinceMs !== undefined && now - headSinceMs > this.#limits.headMs) return true;
    return now - waitsSinceMs > this.#limits.idleMs;
  }

  #close({ client, server }: Connection): void {
    for (const conn of [client, server]) {
      try {
        conn?.close();
      } catch {
        // closed already
      }
    }
  }
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}
