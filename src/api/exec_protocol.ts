/**
 * How a command runs over a WebSocket: the client sends one message with what to run, then stdin on its channel, sizes
 * of its terminal and signals; the server sends stdout and stderr on theirs, and at the end a message that says how it
 * ended; then the client closes. A socket that closes early kills the command. See `flow_socket.ts` for what carries this.
 *
 * A command that was started with `detachable` first has a `terminal` message, with its terminal's id and the number of
 * bytes of output that came before those that follow. Its terminal outlives the socket for a minute: with
 * `?terminal=ID&after=BYTES` another socket is connected with it at once, is shown what came after so many bytes (of the
 * last 256 KiB) and takes the place of the one before.
 *
 * @module
 */

import type { TerminalSize } from "../session/guest_client.ts";

export type { TerminalSize } from "../session/guest_client.ts";

/** Channels of the bytes. */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2 } as const;

/** What a client sends after what to run. */
export type ExecControl =
  | ({ readonly type: "resize" } & TerminalSize)
  | { readonly type: "signal"; readonly number: number }
  /** ends the command and all its children at once; for a terminal, that the socket closes does not */
  | { readonly type: "kill" };

/** Which terminal it is. */
export interface TerminalAttached {
  readonly type: "terminal";
  readonly id: string;
  /** bytes of output before those that follow */
  readonly offset: number;
}

/** How it ended. */
export type ExecResult =
  | { readonly type: "exit"; readonly exitCode: number | null; readonly signal: number | null }
  | { readonly type: "error"; readonly message: string };
