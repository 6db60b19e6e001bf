/**
 * The io thread as main sees it.
 *
 * @module
 */

import type { EventFd } from "../ffi/event_fd.ts";
import { ConfigError } from "./config.ts";
import { ThreadError } from "./vcpu_thread.ts";
import {
  IO_REQUESTS_WORD,
  type IoNews,
  type IoReport,
  type IoRequest,
  type IoStart,
  threadProgram,
} from "./worker_protocol.ts";

/** The host refused something that a device needs: a disk, a TAP device, a socket. */
export class DeviceError extends Error {
  override readonly name = "DeviceError";
}

/** Owns the io Worker. */
export class IoThread {
  /** the devices are there: what the kernel's command line says of them */
  readonly ready: Promise<string>;
  /** rejects if the thread threw; resolves when it has stopped */
  readonly failed: Promise<void>;
  readonly #port: MessagePort;
  readonly #kick: EventFd;
  readonly #words: Int32Array<SharedArrayBuffer>;

  private constructor(
    worker: Worker,
    { port, kick, shared, onNews }: {
      port: MessagePort;
      kick: EventFd;
      shared: SharedArrayBuffer;
      onNews: (news: IoNews) => void;
    },
  ) {
    this.#port = port;
    this.#words = new Int32Array(shared);
    this.#kick = kick;
    const ready = Promise.withResolvers<string>();
    const stopped = Promise.withResolvers<void>();
    worker.onmessage = ({ data }: MessageEvent<IoReport>) => {
      switch (data.type) {
        case "ready":
          return ready.resolve(data.cmdline);
        case "failed":
          ready.reject(
            data.code === "config" ? new ConfigError("devices", data.message) : new DeviceError(data.message),
          );
          return stopped.resolve();
        case "console":
        case "vsock_refused":
          return onNews(data);
        case "stopped":
          return stopped.resolve();
        default:
          data satisfies never;
      }
    };
    worker.onerror = (event) => {
      event.preventDefault();
      const error = new ThreadError(`io thread: ${event.message}`);
      ready.reject(error);
      stopped.reject(error);
    };
    this.ready = ready.promise;
    this.failed = stopped.promise;
    // Both are looked at later; until then a rejection has an owner.
    this.ready.catch(() => {});
    this.failed.catch(() => {});
  }

  /** Starts the thread. `kick` is the eventfd behind `start.kickFd`; `onNews` hears what happens while it runs. */
  static start(
    start: Omit<IoStart, "type" | "port">,
    kick: EventFd,
    onNews: (news: IoNews) => void,
  ): IoThread {
    const worker = new Worker(threadProgram("io_worker"), { type: "module", name: "io" });
    const { port1, port2 } = new MessageChannel();
    const thread = new IoThread(worker, { port: port1, kick, shared: start.shared, onNews });
    const message: IoStart = { type: "start", port: port2, ...start };
    worker.postMessage(message, [port2]);
    return thread;
  }

  /** Stops the thread, once no vCPU runs any more: its backends are closed when this settles. */
  async stop(): Promise<void> {
    const request: IoRequest = { type: "stop" };
    this.#port.postMessage(request);
    Atomics.add(this.#words, IO_REQUESTS_WORD, 1);
    this.#kick.signal();
    // A thread that threw has nothing left to stop; whoever awaits `failed` hears of it.
    await this.failed.catch(() => {});
    this.#port.close();
  }
}
