/**
 * Makes a TCP port of a session's guest reachable on this machine's loopback interface.
 *
 * @module
 */

import type { ApiClient } from "../api/client.ts";
import { closeQuietly } from "../network/splice.ts";
import { LocalError } from "./local_error.ts";

/** Connections at once. */
const MAX_CONNECTIONS = 256;

/** A port of this machine, and the guest's that it leads to. */
export interface Publication {
  /** 0: any that is free */
  readonly hostPort: number;
  readonly guestPort: number;
}

/** A published port, until it is disposed of. */
export interface PublishedPort extends AsyncDisposable {
  readonly hostPort: number;
}

/** Where connections go: a session of a server. */
export interface PublishedSession {
  readonly client: ApiClient;
  readonly id: string;
}

/** Listens on 127.0.0.1; each connection goes to the guest of the session, once that is there. */
export function publishPort(session: Promise<PublishedSession>, publication: Publication): PublishedPort {
  const { hostPort, guestPort } = publication;
  let listener: Deno.TcpListener;
  try {
    listener = Deno.listen({ hostname: "127.0.0.1", port: hostPort });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new LocalError("usage", `Cannot listen on 127.0.0.1:${hostPort}: ${why}`, { cause });
  }
  const open = new Set<Deno.Conn>();
  const carry = async (conn: Deno.Conn): Promise<void> => {
    const { client, id } = await session;
    await client.forward(id, guestPort, conn);
  };
  void (async (): Promise<void> => {
    for await (const conn of listener) {
      if (open.size >= MAX_CONNECTIONS) {
        conn.close();
        continue;
      }
      open.add(conn);
      void carry(conn).catch(() => closeQuietly(conn)).finally(() => open.delete(conn));
    }
  })();
  return {
    hostPort: listener.addr.port,
    [Symbol.asyncDispose](): Promise<void> {
      listener.close();
      for (const conn of open) closeQuietly(conn);
      return Promise.resolve();
    },
  };
}
