/**
 * Carries a TCP connection over a WebSocket to a port of a session's guest.
 *
 * @module
 */

import { FlowSocket, openSocket } from "./flow_socket.ts";

const CHUNK_BYTES = 64 * 1024;

/** Carries `conn` to the port behind `url` until both sides have ended; closes it. */
export async function carryPort(url: string, token: string, conn: Deno.Conn): Promise<void> {
  const over = Promise.withResolvers<void>();
  const theirEnd = Promise.withResolvers<void>();
  const flow = new FlowSocket(openSocket(url, token), {
    onData: async (_channel, bytes) => {
      if (bytes.length === 0) {
        theirEnd.resolve();
        return await conn.closeWrite();
      }
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    },
    // It could not connect: the end of the connection is all that a TCP client can be told
    onMessage: () => over.resolve(),
    onClose: () => over.resolve(),
  });
  const ourEnd = (async (): Promise<void> => {
    const chunk = new Uint8Array(CHUNK_BYTES);
    for (let count = await conn.read(chunk); count !== null; count = await conn.read(chunk)) {
      await flow.send(0, chunk.subarray(0, count));
    }
    await flow.end(0);
  })();
  ourEnd.catch(() => over.resolve());
  await Promise.race([over.promise, Promise.all([ourEnd, theirEnd.promise])]);
  flow.close();
  try {
    conn.close();
  } catch {
    // It was closed already
  }
}
