/**
 * Runs a command behind a WebSocket as if it were a child process.
 *
 * @module
 */

import { CHANNEL, type ExecResult, type TerminalSize } from "./exec_protocol.ts";
import { FlowSocket, openSocket } from "./flow_socket.ts";

/** The command could not be run, or was lost. */
export class ExecError extends Error {
  override readonly name = "ExecError";
}

/** How a command ended. */
export interface ExecStatus {
  /** exit code, or 128 and the number of the signal that ended it, as shells say it */
  readonly code: number;
}

/** A command running elsewhere. */
export interface ExecChild {
  readonly stdin: WritableStream<Uint8Array>;
  readonly stdout: ReadableStream<Uint8Array>;
  readonly stderr: ReadableStream<Uint8Array>;
  /** settles when the command ended and all its output arrived */
  readonly status: Promise<ExecStatus>;
  /** Tells its terminal a new size. */
  resize(size: TerminalSize): void;
  /** Sends it a signal. */
  signal(number: number): void;
  /** ends the command and all its children at once */
  kill(): void;
}

/** What to run, and where. */
export interface ExecOptions {
  /** address of the WebSocket, beginning with `http` */
  readonly url: string;
  readonly token: string;
  /** the message that says what to run */
  readonly request: Readonly<Record<string, unknown>>;
  /** where it runs, for errors: `the emulated host` */
  readonly where: string;
}

/** Starts a command. */
export function openExec(options: ExecOptions): ExecChild {
  const ended = Promise.withResolvers<ExecStatus>();
  // Whoever started it may never look at its end
  ended.promise.catch(() => {});
  const fail = (message: string): void => ended.reject(new ExecError(message));
  const stdout = outputStream();
  const stderr = outputStream();
  const outputs = new Map([[CHANNEL.stdout as number, stdout], [CHANNEL.stderr, stderr]]);
  const flow = new FlowSocket(openSocket(options.url, options.token), {
    onData: (channel, bytes) => outputs.get(channel)?.push(bytes),
    onMessage: (message) => {
      const result = message as unknown as ExecResult;
      if (result.type === "error") fail(`Cannot run this in ${options.where}: ${result.message}`);
      else if (result.type === "exit") ended.resolve({ code: result.exitCode ?? 128 + (result.signal ?? 0) });
      void flow.consumed().then(() => flow.close());
    },
    onClose: () => {
      fail(`Lost ${options.where}: the connection closed before the command ended`);
      // The last bytes may still wait for their reader
      void flow.consumed().then(() => [stdout, stderr].forEach((output) => output.close()));
    },
  });
  void flow.message(options.request);
  return {
    stdin: new WritableStream<Uint8Array>({
      write: (bytes) => bytes.length === 0 ? undefined : flow.send(CHANNEL.stdin, bytes),
      close: () => flow.end(CHANNEL.stdin),
      abort: () => flow.end(CHANNEL.stdin),
    }),
    stdout: stdout.stream,
    stderr: stderr.stream,
    status: ended.promise,
    resize: (size) => void flow.message({ type: "resize", ...size }),
    signal: (number) => void flow.message({ type: "signal", number }),
    kill: () => flow.close(),
  };
}

/** A stream that is written to as fast as it is read. */
export function outputStream(): {
  readonly stream: ReadableStream<Uint8Array>;
  push(bytes: Uint8Array): Promise<void>;
  close(): void;
} {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  // Its reader may have gone away: then nobody wants the rest
  writer.closed.catch(() => {});
  return {
    stream: readable,
    push: (bytes) => bytes.length === 0 ? Promise.resolve() : writer.write(bytes).catch(() => {}),
    close: () => void writer.close().catch(() => {}),
  };
}
