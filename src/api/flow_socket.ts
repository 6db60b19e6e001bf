/**
 * Byte streams and small messages over one WebSocket, in both directions, with flow control: a WebSocket by itself
 * takes whatever comes into memory, however slow its reader is.
 *
 * A binary message is one byte of channel number and then bytes of that channel; no bytes are the channel's end. A text
 * message is JSON: `{"type":"ack","bytes":N}` says that N bytes more were consumed, anything else is for the user of
 * this class. A sender keeps at most {@link WINDOW_BYTES} unconsumed on their way.
 *
 * @module
 */

/** Bytes that a sender may have on their way before it waits. */
const WINDOW_BYTES = 1024 * 1024;
/** Consumed bytes that one message acknowledges; fewer are acknowledged when nothing else waits. */
const ACK_BYTES = 256 * 1024;
/** Bytes that a peer may send ahead before its connection is given up: it does not keep to the window. */
const MAX_WAITING_BYTES = 4 * WINDOW_BYTES;
const MAX_CHUNK_BYTES = 64 * 1024;
/** How long a peer has to close a connection that is over, in `ms`. */
const FINISH_LIMIT_MS = 10_000;

/** Who gets what comes. */
export interface FlowHandlers {
  /** takes bytes of a channel; the next ones of it come when the promise is fulfilled. No bytes: the channel has ended */
  readonly onData: (channel: number, bytes: Uint8Array) => void | Promise<void>;
  /** takes a message, which may be anything */
  readonly onMessage: (message: Readonly<Record<string, unknown>>) => void;
  /** the connection is over */
  readonly onClose: () => void;
}

/** One connection. */
export class FlowSocket {
  readonly #socket: WebSocket;
  readonly #handlers: FlowHandlers;
  readonly #channels = new Map<number, Promise<void>>();
  readonly #opened = Promise.withResolvers<void>();
  readonly #closed = Promise.withResolvers<void>();
  #waitingBytes = 0;
  #consumedBytes = 0;
  #sentBytes = 0;
  #roomWaiters: (() => void)[] = [];

  constructor(socket: WebSocket, handlers: FlowHandlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    socket.binaryType = "arraybuffer";
    if (socket.readyState === WebSocket.OPEN) this.#opened.resolve();
    socket.onopen = (): void => this.#opened.resolve();
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>): void => {
      if (typeof event.data === "string") this.#takeText(event.data);
      else this.#takeBytes(new Uint8Array(event.data));
    };
    socket.onclose = (): void => {
      this.#opened.resolve();
      this.#closed.resolve();
      this.#wakeSenders();
      handlers.onClose();
    };
    // What follows an error is the close
    socket.onerror = (): void => {};
  }

  /** whether anything can still be sent */
  get isOpen(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Sends bytes of a channel; waits while the other side has not consumed what was sent. */
  async send(channel: number, bytes: Uint8Array): Promise<void> {
    await this.#opened.promise;
    for (let at = 0; at < bytes.length; at += MAX_CHUNK_BYTES) {
      while (this.isOpen && this.#sentBytes >= WINDOW_BYTES) {
        await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
      }
      this.#sendFrame(channel, bytes.subarray(at, at + MAX_CHUNK_BYTES));
    }
  }

  /** Says that a channel has no more bytes. */
  async end(channel: number): Promise<void> {
    await this.#opened.promise;
    this.#sendFrame(channel, new Uint8Array());
  }

  /** Sends a message. */
  async message(message: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#opened.promise;
    if (this.isOpen) this.#socket.send(JSON.stringify(message));
  }

  /** Settles when all that has come was consumed. */
  async consumed(): Promise<void> {
    await Promise.all(this.#channels.values());
  }

  /**
   * Leaves the end of the connection to the other side, for a while: it has what was sent last when it closes, and its
   * acknowledgements meet nothing that is closed already.
   */
  finish(): void {
    const timer = setTimeout(() => this.close(), FINISH_LIMIT_MS);
    Deno.unrefTimer(timer);
    void this.#closed.promise.then(() => clearTimeout(timer));
  }

  /** Ends the connection. */
  close(): void {
    // One that is closed before it is open never says that it is closed
    void this.#opened.promise.then(() => {
      if (this.isOpen) this.#socket.close();
    });
  }

  #sendFrame(channel: number, bytes: Uint8Array): void {
    if (!this.isOpen) return;
    const frame = new Uint8Array(bytes.length + 1);
    frame[0] = channel;
    frame.set(bytes, 1);
    this.#sentBytes += bytes.length;
    this.#socket.send(frame);
  }

  #takeText(text: string): void {
    let message: Readonly<Record<string, unknown>>;
    try {
      message = JSON.parse(text) as typeof message;
    } catch {
      return this.close();
    }
    if (typeof message !== "object" || message === null) return this.close();
    if (message.type !== "ack") return this.#handlers.onMessage(message);
    this.#sentBytes -= Math.max(0, Number(message.bytes) || 0);
    this.#wakeSenders();
  }

  #takeBytes(frame: Uint8Array): void {
    const channel = frame[0];
    if (channel === undefined) return this.close();
    const bytes = frame.subarray(1);
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes > MAX_WAITING_BYTES) return this.close();
    const before = this.#channels.get(channel) ?? Promise.resolve();
    const consumed = before.then(() => this.#handlers.onData(channel, bytes)).catch(() => this.close());
    this.#channels.set(channel, consumed.then(() => this.#acknowledge(bytes.length)));
  }

  #acknowledge(byteCount: number): void {
    this.#waitingBytes -= byteCount;
    this.#consumedBytes += byteCount;
    if (this.#consumedBytes === 0 || (this.#waitingBytes > 0 && this.#consumedBytes < ACK_BYTES)) return;
    if (this.isOpen) this.#socket.send(JSON.stringify({ type: "ack", bytes: this.#consumedBytes }));
    this.#consumedBytes = 0;
  }

  #wakeSenders(): void {
    for (const wake of this.#roomWaiters.splice(0)) wake();
  }
}

// Deno takes headers here; the DOM's types, which are loaded too, do not know of it
const HeaderSocket = WebSocket as unknown as new (
  url: string,
  options: { readonly headers: Readonly<Record<string, string>> },
) => WebSocket;

/** Opens a WebSocket with headers of its own; `url` begins with `http`. */
export function openSocketWith(url: string, headers: Readonly<Record<string, string>>): WebSocket {
  return new HeaderSocket(url.replace(/^http/, "ws"), { headers });
}

/** Opens a WebSocket to a server that wants a bearer token; `url` begins with `http`. */
export function openSocket(url: string, token: string): WebSocket {
  return openSocketWith(url, { authorization: `Bearer ${token}` });
}
