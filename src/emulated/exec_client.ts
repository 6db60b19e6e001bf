/**
 * Runs a command in the emulated host as if it were a child process.
 *
 * @module
 */
import { CHANNEL, drained, type ExecRequest, type ExecResult } from "./exec_protocol.ts";
import { HostError } from "./host_error.ts";

/** A command running in the emulated host. */
export interface ExecChild {
  readonly stdin: WritableStream<Uint8Array>;
  readonly stdout: ReadableStream<Uint8Array>;
  readonly stderr: ReadableStream<Uint8Array>;
  /** settles when the command ended and all its output arrived */
  readonly status: Promise<{ readonly code: number }>;
  /** ends the command and all its children at once */
  kill(): void;
}

// Deno takes headers here; the DOM's types, which are loaded too, do not know of it
const HeaderSocket = WebSocket as unknown as new (
  url: string,
  options: { readonly headers: Readonly<Record<string, string>> },
) => WebSocket;

/** Starts a command over a WebSocket at `url` (`http://…`). */
export function openExec(url: string, token: string, request: ExecRequest): ExecChild {
  const address = url.replace(/^http/, "ws") + "/host/exec";
  const socket = new HeaderSocket(address, { headers: { authorization: `Bearer ${token}` } });
  socket.binaryType = "arraybuffer";
  const opened = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<{ code: number }>();
  // A failure also settles `status`: nobody need listen here
  opened.promise.catch(() => {});
  const stdout = outputStream();
  const stderr = outputStream();
  const fail = (message: string): void => {
    const error = new HostError("exec_failed", message);
    opened.reject(error);
    ended.reject(error);
  };
  socket.onopen = (): void => {
    socket.send(JSON.stringify(request));
    opened.resolve();
  };
  socket.onmessage = (event: MessageEvent<string | ArrayBuffer>): void => {
    if (typeof event.data !== "string") {
      const bytes = new Uint8Array(event.data);
      (bytes[0] === CHANNEL.stdout ? stdout : stderr).push(bytes.subarray(1));
      return;
    }
    const result = JSON.parse(event.data) as ExecResult;
    if (result.type === "exit") ended.resolve({ code: result.code });
    else fail(`Cannot run "${request.argv[0] ?? ""}" in the emulated host: ${result.message}`);
  };
  socket.onerror = (event): void =>
    fail(`Lost the emulated host: ${event instanceof ErrorEvent ? event.message : "connection error"}`);
  socket.onclose = (): void => {
    fail("Lost the emulated host: the connection closed before the command ended");
    stdout.close();
    stderr.close();
  };
  return {
    stdin: stdinStream(socket, opened.promise),
    stdout: stdout.stream,
    stderr: stderr.stream,
    status: ended.promise,
    kill: (): void => socket.close(),
  };
}

function outputStream(): {
  stream: ReadableStream<Uint8Array>;
  push(bytes: Uint8Array): void;
  close(): void;
} {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  let open = true;
  const stream = new ReadableStream<Uint8Array>({
    start: (own): void => void (controller = own),
    cancel: (): void => void (open = false),
  });
  return {
    stream,
    push: (bytes): void => void (open && controller?.enqueue(bytes)),
    close: (): void => {
      if (open) controller?.close();
      open = false;
    },
  };
}

function stdinStream(socket: WebSocket, opened: Promise<void>): WritableStream<Uint8Array> {
  const send = async (bytes: Uint8Array): Promise<void> => {
    await opened;
    if (socket.readyState === WebSocket.OPEN) socket.send(new Uint8Array(bytes));
    await drained(socket);
  };
  return new WritableStream<Uint8Array>({
    write: (bytes) => bytes.length === 0 ? undefined : send(bytes),
    close: () => send(new Uint8Array()),
    abort: () => send(new Uint8Array()),
  });
}
