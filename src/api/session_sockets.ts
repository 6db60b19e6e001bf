/**
 * The server's side of WebSockets into a session: one command, or one connection to a port of the guest.
 *
 * @module
 */

import type { GuestProcess, GuestStream } from "../session/guest_client.ts";
import { closeQuietly, sendFromConnection, writeToConnection } from "./carry_connection.ts";
import { CHANNEL, type ExecControl, type ExecResult, type TerminalAttached } from "./exec_protocol.ts";
import { FlowSocket } from "./flow_socket.ts";
import type { ExecOutput } from "./live_session.ts";
import { terminalSizeSchema } from "./session_schemas.ts";
import type { AttachedProcess, TerminalView } from "./terminals.ts";

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What a command is connected with. */
export type ExecSink = ExecOutput & TerminalView;

/** A command that is served. */
type Served = GuestProcess & Partial<Pick<AttachedProcess, "kill">>;

/**
 * Serves one command. `start` is given the client's first message, or is called at once if the client comes back to a
 * command. A socket that closes closes the command, which for a terminal means that nobody looks at it.
 */
export function serveExec(
  socket: WebSocket,
  start: (request: unknown, sink: ExecSink) => Promise<Served>,
  options: { readonly isBack: boolean } = { isBack: false },
): void {
  let process: Promise<Served> | undefined;
  const begin = (message: unknown): void => {
    process = start(message, {
      onStdout: (chunk) => flow.send(CHANNEL.stdout, chunk),
      onStderr: (chunk) => flow.send(CHANNEL.stderr, chunk),
      onAttached: (id, offset) =>
        void flow.message({ type: "terminal", id, offset } satisfies TerminalAttached),
      onDisplaced: () => flow.close(),
    });
    void reportEnd(flow, process);
  };
  const flow = new FlowSocket(socket, {
    onMessage: (message) => {
      if (process === undefined) return begin(message);
      void control(process, message).catch(() => {/* it has ended */});
    },
    onData: async (_channel, bytes) => {
      try {
        const started = await process;
        await (bytes.length === 0 ? started?.closeStdin() : started?.write(bytes));
      } catch {
        // A command may end before it read everything: that is its right
      }
    },
    onClose: () => void process?.then((started) => started.close()).catch(() => {/* it never ran */}),
  });
  if (options.isBack) begin(undefined);
}

async function control(process: Promise<Served>, message: unknown): Promise<void> {
  const request = message as ExecControl;
  const started = await process;
  if (request.type === "resize") await started.resize(terminalSizeSchema.parse(request));
  else if (request.type === "signal") await started.signal(Number(request.number));
  else if (request.type === "kill") (started.kill ?? started.close)();
}

async function reportEnd(flow: FlowSocket, process: Promise<GuestProcess>): Promise<void> {
  let result: ExecResult;
  try {
    const { exitCode, signal } = await (await process).exit;
    result = { type: "exit", exitCode, signal };
  } catch (error) {
    result = { type: "error", message: messageOf(error) };
  }
  await flow.message({ ...result });
  flow.finish();
}

/** Carries bytes between a socket's channel 0 and a connection in the guest. */
export function servePort(socket: WebSocket, connect: () => Promise<GuestStream>): void {
  const stream = connect();
  const flow = new FlowSocket(socket, {
    onMessage: () => {},
    onData: async (_channel, bytes) => await writeToConnection((await stream).conn, bytes),
    onClose: () => void stream.then(({ conn }) => closeQuietly(conn)).catch(() => {}),
  });
  void sendAll(flow, stream);
}

async function sendAll(flow: FlowSocket, stream: Promise<GuestStream>): Promise<void> {
  try {
    const { conn, first } = await stream;
    await flow.send(0, first);
    await sendFromConnection(flow, conn);
  } catch (error) {
    await flow.message({ type: "error", message: messageOf(error) });
    flow.finish();
  }
}
