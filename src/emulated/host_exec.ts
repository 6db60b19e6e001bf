/**
 * The emulated host's side of `exec`: runs one command for one WebSocket.
 *
 * @module
 */
import { CHANNEL, drained, type ExecRequest, type ExecResult } from "./exec_protocol.ts";

/** Number of commands that are running. */
export const running = { count: 0 };

/** Serves one socket until its command ended or it closed. */
export function serveExec(socket: WebSocket): void {
  socket.binaryType = "arraybuffer";
  let child: Deno.ChildProcess | undefined;
  let stdin: WritableStreamDefaultWriter<Uint8Array> | undefined;
  socket.onmessage = (event: MessageEvent<string | ArrayBuffer>): void => {
    if (typeof event.data === "string") {
      if (child !== undefined) return;
      child = start(socket, event.data);
      stdin = child?.stdin.getWriter();
    } else {
      writeStdin(stdin, new Uint8Array(event.data));
    }
  };
  socket.onclose = (): void => {
    if (child !== undefined) killGroup(child.pid);
  };
  socket.onerror = (): void => socket.close();
}

function writeStdin(stdin: WritableStreamDefaultWriter<Uint8Array> | undefined, bytes: Uint8Array): void {
  const written = bytes.length === 0 ? stdin?.close() : stdin?.write(bytes);
  // A command may end or close its stdin before it read everything: that is its right
  written?.catch(() => {});
}

function start(socket: WebSocket, text: string): Deno.ChildProcess | undefined {
  let child: Deno.ChildProcess;
  try {
    const { argv, cwd, env } = JSON.parse(text) as ExecRequest;
    const [program = "", ...args] = argv;
    child = new Deno.Command(program, {
      args,
      ...(cwd === undefined ? {} : { cwd }),
      env: { ...env },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    }).spawn();
  } catch (error) {
    finish(socket, { type: "error", message: error instanceof Error ? error.message : String(error) });
    return undefined;
  }
  running.count++;
  void report(socket, child).finally(() => running.count--);
  return child;
}

async function report(socket: WebSocket, child: Deno.ChildProcess): Promise<void> {
  const [status] = await Promise.all([
    child.status,
    forward(socket, CHANNEL.stdout, child.stdout),
    forward(socket, CHANNEL.stderr, child.stderr),
  ]);
  finish(socket, { type: "exit", code: status.code });
}

async function forward(
  socket: WebSocket,
  channel: number,
  stream: ReadableStream<Uint8Array>,
): Promise<void> {
  for await (const bytes of stream) {
    if (socket.readyState !== WebSocket.OPEN) continue;
    const frame = new Uint8Array(bytes.length + 1);
    frame[0] = channel;
    frame.set(bytes, 1);
    socket.send(frame);
    await drained(socket);
  }
}

function finish(socket: WebSocket, result: ExecResult): void {
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify(result));
  socket.close(1000);
}

function killGroup(pid: number): void {
  try {
    Deno.kill(-pid, "SIGKILL");
  } catch {
    // the command ended by itself
  }
}
