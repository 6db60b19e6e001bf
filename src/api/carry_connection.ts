/**
 * Carries a TCP connection over channel 0 of a socket: the same on the client's side and on the server's.
 *
 * @module
 */

import type { FlowSocket } from "./flow_socket.ts";

const CHUNK_BYTES = 64 * 1024;

/** Sends what a connection gives until its end, and then that: half an end, as in TCP. */
export async function sendFromConnection(flow: FlowSocket, conn: Deno.Conn): Promise<void> {
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (let count = await conn.read(chunk); count !== null; count = await conn.read(chunk)) {
    await flow.send(0, chunk.subarray(0, count));
  }
  await flow.end(0);
}

/** Writes what came to a connection; no bytes are the other side's end. */
export async function writeToConnection(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0) return await conn.closeWrite();
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

/** Closes a connection that may be closed already. */
export function closeQuietly(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch {
    // It was closed already
  }
}
