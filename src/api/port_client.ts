/**
 * Carries a TCP connection over a WebSocket to a port of a session's guest.
 *
 * @module
 */

import { closeQuietly, sendFromConnection, writeToConnection } from "./carry_connection.ts";
import { FlowSocket, openSocket } from "./flow_socket.ts";

/** Carries `conn` to the port behind `url` until both sides have ended; closes it. */
export async function carryPort(url: string, token: string, conn: Deno.Conn): Promise<void> {
  const over = Promise.withResolvers<void>();
  const theirEnd = Promise.withResolvers<void>();
  const flow = new FlowSocket(openSocket(url, token), {
    onData: async (_channel, bytes) => {
      if (bytes.length === 0) theirEnd.resolve();
      await writeToConnection(conn, bytes);
    },
    // It could not connect: the end of the connection is all that a TCP client can be told
    onMessage: () => over.resolve(),
    onClose: () => over.resolve(),
  });
  const ourEnd = sendFromConnection(flow, conn);
  ourEnd.catch(() => over.resolve());
  await Promise.race([over.promise, Promise.all([ourEnd, theirEnd.promise])]);
  flow.close();
  closeQuietly(conn);
}
