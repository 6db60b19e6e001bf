/**
 * Entry of the io thread.
 *
 * @module
 */

import { collectGarbage } from "../ffi/collect_garbage.ts";
import { SysError } from "../ffi/errno.ts";
import { nodeModule } from "../ffi/node_module.ts";
import { Qcow2Error } from "../host/qcow2_header.ts";
import { SocketPathError } from "../host/unix_socket.ts";
import { ConfigError } from "./config.ts";
import { IoLoop } from "./io_loop.ts";
import { IO_REQUESTS_WORD, type IoReport, type IoRequest, type IoStart } from "./worker_protocol.ts";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<IoStart>) => void) | null;
  postMessage(report: IoReport): void;
  close(): void;
};

scope.onmessage = ({ data }) => {
  let loop: IoLoop;
  try {
    loop = new IoLoop(data, (news) => scope.postMessage(news));
  } catch (error) {
    const known = error instanceof SysError || error instanceof Qcow2Error || error instanceof ConfigError ||
      error instanceof SocketPathError;
    if (!known) throw error;
    const code = error instanceof SysError ? "host" : "config";
    scope.postMessage({ type: "failed", code, message: error.message });
    return scope.close();
  }
  scope.postMessage({ type: "ready", cmdline: loop.cmdline });
  collectGarbage();
  const words = new Int32Array(data.shared);
  let served = 0;
  loop.run(() => {
    // Only then: reading a port takes one of Node's modules.
    if (Atomics.load(words, IO_REQUESTS_WORD) === served) return false;
    served++;
    return nextRequest(data.port)?.type === "stop";
  });
  loop[Symbol.dispose]();
  scope.postMessage({ type: "stopped" });
  data.port.close();
  scope.close();
};

/** A message that main left, without going back to the event loop. */
function nextRequest(port: MessagePort): IoRequest | undefined {
  const { receiveMessageOnPort } = nodeModule("node:worker_threads");
  const received = receiveMessageOnPort(port as never) as { message: IoRequest } | undefined;
  return received?.message;
}
