/**
 * How a command runs in the emulated host over a WebSocket. The client sends one `ExecRequest` as text, then
 * binary frames with stdin bytes; an empty binary frame ends stdin. The server sends binary frames whose first
 * byte is the channel, and one `ExecResult` as text at the end. A socket that closes early kills the command.
 *
 * @module
 */

/** What to run. */
export interface ExecRequest {
  readonly argv: readonly string[];
  readonly cwd?: string;
  /** variables added to the server's own */
  readonly env?: Readonly<Record<string, string>>;
}

/** How it ended. */
export type ExecResult =
  | { readonly type: "exit"; readonly code: number }
  | { readonly type: "error"; readonly message: string };

/** First byte of a binary frame from the server. */
export const CHANNEL = { stdout: 1, stderr: 2 } as const;

/** What `GET /host/info` answers. */
export interface HostInfo {
  /** state of the source tree when the server started */
  readonly sourceStamp: string;
  /** tasks and commands that are running */
  readonly active: number;
  readonly denoVersion: string;
  readonly uptimeMs: number;
}

/** Bytes that may wait in a socket before its writer pauses. */
const MAX_BUFFERED_BYTES = 1024 * 1024;

/** Waits until a socket has sent most of what it was given. */
export async function drained(socket: WebSocket): Promise<void> {
  while (socket.readyState === WebSocket.OPEN && socket.bufferedAmount > MAX_BUFFERED_BYTES) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
