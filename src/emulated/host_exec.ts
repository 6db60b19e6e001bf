/**
 * The emulated host's side of `exec`: runs one command for one WebSocket.
 *
 * @module
 */
import { CHANNEL, type ExecResult } from "../api/exec_protocol.ts";
import { FlowSocket } from "../api/flow_socket.ts";
import type { ExecRequest } from "./exec_protocol.ts";

/** Number of commands that are running. */
export const running = { count: 0 };

/** Serves one socket until its command ended or it closed. */
export function serveExec(socket: WebSocket): void {
  let child: Deno.ChildProcess | undefined;
  let stdin: WritableStreamDefaultWriter<Uint8Array> | undefined;
  const flow = new FlowSocket(socket, {
    onMessage: (message) => {
      if (child !== undefined) return;
      child = start(flow, message as unknown as ExecRequest);
      stdin = child?.stdin.getWriter();
    },
    onData: (_channel, bytes) => {
      const written = bytes.length === 0 ? stdin?.close() : stdin?.write(bytes);
      // A command may end or close its stdin before it read everything: that is its right
      return written?.catch(() => {});
    },
    onClose: () => {
      if (child !== undefined) killGroup(child.pid);
    },
  });
}

function start(flow: FlowSocket, { argv, cwd, env }: ExecRequest): Deno.ChildProcess | undefined {
  let child: Deno.ChildProcess;
  const [program = "", ...args] = argv;
  try {
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
    const message = `"${program}": ${error instanceof Error ? error.message : String(error)}`;
    void finish(flow, { type: "error", message });
    return undefined;
  }
  running.count++;
  void report(flow, child).finally(() => running.count--);
  return child;
}

async function report(flow: FlowSocket, child: Deno.ChildProcess): Promise<void> {
  const [status] = await Promise.all([
    child.status,
    forward(flow, CHANNEL.stdout, child.stdout),
    forward(flow, CHANNEL.stderr, child.stderr),
  ]);
  await finish(flow, { type: "exit", exitCode: status.code, signal: null });
}

async function forward(flow: FlowSocket, channel: number, stream: ReadableStream<Uint8Array>): Promise<void> {
  for await (const bytes of stream) await flow.send(channel, bytes);
}

async function finish(flow: FlowSocket, result: ExecResult): Promise<void> {
  await flow.message({ ...result });
  flow.finish();
}

function killGroup(pid: number): void {
  try {
    Deno.kill(-pid, "SIGKILL");
  } catch {
    // the command ended by itself
  }
}
