/**
 * A command on a terminal behind a WebSocket that is opened anew when it breaks.
 *
 * @module
 */

import { type ExecChild, ExecError, type ExecOptions, type ExecStatus, outputStream } from "./exec_client.ts";
import { CHANNEL, type ExecResult, type TerminalAttached, type TerminalSize } from "./exec_protocol.ts";
import { FlowSocket, openSocket } from "./flow_socket.ts";

/** How long it is tried to come back, in `ms`: so long the server keeps the terminal. */
const RECONNECT_LIMIT_MS = 60_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 3000;

/** A terminal, from the first connection to the command's end. */
class TerminalChild implements ExecChild {
  readonly stdin: WritableStream<Uint8Array>;
  readonly stdout: ReadableStream<Uint8Array>;
  readonly stderr: ReadableStream<Uint8Array> = new Blob([]).stream();
  readonly #options: ExecOptions;
  readonly #ended = Promise.withResolvers<ExecStatus>();
  readonly #output = outputStream();
  #flow: FlowSocket;
  #attached = Promise.withResolvers<void>();
  #id: string | undefined;
  /** output so far, in bytes, as the server counts it */
  #seenBytes = 0;
  #size: TerminalSize | undefined;
  #isOver = false;
  /** when the connection broke (undefined: it has not) */
  #lostAtMs: number | undefined;
  #pauseMs = FIRST_PAUSE_MS;

  constructor(options: ExecOptions) {
    this.#options = options;
    this.#ended.promise.catch(() => {/* whoever started it may never look at its end */});
    this.stdout = this.#output.stream;
    this.stdin = new WritableStream<Uint8Array>({
      write: async (bytes) => {
        await this.#attached.promise;
        if (bytes.length > 0) await this.#flow.send(CHANNEL.stdin, bytes);
      },
      close: () => this.#flow.end(CHANNEL.stdin),
      abort: () => this.#flow.end(CHANNEL.stdin),
    });
    this.#flow = this.#connect("new");
    void this.#flow.message({ ...options.request, detachable: true });
  }

  get status(): Promise<ExecStatus> {
    return this.#ended.promise;
  }

  resize(size: TerminalSize): void {
    this.#size = size;
    void this.#flow.message({ type: "resize", ...size });
  }

  signal(number: number): void {
    void this.#flow.message({ type: "signal", number });
  }

  kill(): void {
    this.#isOver = true;
    void this.#flow.message({ type: "kill" }).finally(() => this.#flow.close());
  }

  #connect(terminal: string): FlowSocket {
    const query = new URLSearchParams({ terminal, after: String(this.#seenBytes) });
    return new FlowSocket(openSocket(`${this.#options.url}?${query}`, this.#options.token), {
      onData: (_channel, bytes) => {
        this.#seenBytes += bytes.length;
        return this.#output.push(bytes);
      },
      onMessage: (message) => this.#take(message as unknown as ExecResult | TerminalAttached),
      onClose: () => void this.#closed(),
    });
  }

  #take(message: ExecResult | TerminalAttached): void {
    const { where } = this.#options;
    switch (message.type) {
      case "terminal":
        this.#id = message.id;
        this.#seenBytes = message.offset;
        this.#lostAtMs = undefined;
        this.#pauseMs = FIRST_PAUSE_MS;
        this.#attached.resolve();
        if (this.#size !== undefined) this.resize(this.#size);
        return;
      case "exit":
        this.#ended.resolve({ code: message.exitCode ?? 128 + (message.signal ?? 0) });
        break;
      case "error":
        this.#ended.reject(new ExecError(`Cannot run this in ${where}: ${message.message}`));
        break;
      default:
        return;
    }
    this.#isOver = true;
    const flow = this.#flow;
    void flow.consumed().then(() => flow.close());
  }

  async #closed(): Promise<void> {
    // What has come counts as seen once it is written
    await this.#flow.consumed();
    this.#lostAtMs ??= performance.now();
    const isLate = performance.now() - this.#lostAtMs > RECONNECT_LIMIT_MS;
    if (this.#isOver || this.#id === undefined || isLate) {
      const { where } = this.#options;
      this.#ended.reject(new ExecError(`Lost ${where}: the connection closed before the command ended`));
      this.#attached.resolve();
      return this.#output.close();
    }
    this.#attached = Promise.withResolvers();
    await new Promise((resolve) => setTimeout(resolve, this.#pauseMs));
    this.#pauseMs = Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
    this.#flow = this.#connect(this.#id);
  }
}

/** Starts a command on a terminal. */
export function openTerminal(options: ExecOptions): ExecChild {
  return new TerminalChild(options);
}
