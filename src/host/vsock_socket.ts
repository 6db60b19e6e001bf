/**
 * The host's side of vsock as Unix sockets, in Firecracker's convention: who connects to the socket and writes
 * `CONNECT <port>\n` reaches that port of the guest and reads `OK <host port>\n`; what the guest connects to at host
 * port P reaches whoever listens at `<socket>_P`.
 *
 * @module
 */

import type { Iovec } from "../ffi/iovec.ts";
import { EPOLL, type Poller } from "../ffi/poller.ts";
import { close } from "../ffi/sys.ts";
import { acceptUnix, connectUnix, listenUnix, UnixSocket } from "./unix_socket.ts";

/** "CONNECT 4294967295\n" */
const MAX_REQUEST_BYTES = 19;
/** Clients that have connected and not yet said what they want. */
const MAX_HANDSHAKES = 64;

/** Different targets that are told of: a guest could try all of them. */
const MAX_TOLD_TARGETS = 64;

/** What the guest tried to reach in vain. */
export interface VsockTarget {
  readonly cid: number;
  readonly port: number;
}

/** What the sockets need of the vsock device. */
export interface VsockEvents {
  connectGuest(guestPort: number, stream: VsockStream): boolean;
  onStream(stream: VsockStream, ready: { readable: boolean; writable: boolean }): void;
}

interface Context {
  readonly iovec: Iovec;
  readonly poller: Poller;
  /** tells the device of readiness */
  readonly notify: (stream: VsockStream, ready: { readable: boolean; writable: boolean }) => void;
  /** runs code of the device, which a hostile guest may make fail */
  readonly guard: (work: () => void) => void;
}

/** One stream's Unix socket. */
export class VsockStream {
  readonly #socket: UnixSocket;
  readonly #context: Context;
  readonly #acknowledge: boolean;
  #events = 0;

  /** `acknowledge`: whether the other side waits for the `OK` line. */
  constructor(fd: number, context: Context, acknowledge: boolean) {
    this.#socket = new UnixSocket(fd, context.iovec);
    this.#context = context;
    this.#acknowledge = acknowledge;
  }

  read(views: Uint8Array<ArrayBuffer>[]): number | undefined {
    return this.#socket.readViews(views);
  }

  write(views: Uint8Array<ArrayBuffer>[]): number | undefined {
    return this.#socket.writeViews(views);
  }

  established(hostPort: number): void {
    // A fresh socket's buffer has room for a line.
    if (this.#acknowledge) this.#socket.writeViews([new TextEncoder().encode(`OK ${hostPort}\n`)]);
  }

  shutdownWrite(): void {
    this.#socket.shutdownWrite();
  }

  close(): void {
    this.#setEvents(0);
    this.#socket[Symbol.dispose]();
  }

  watch({ readable, writable }: { readable: boolean; writable: boolean }): void {
    this.#setEvents((readable ? EPOLL.IN : 0) | (writable ? EPOLL.OUT : 0));
  }

  /** A socket that nothing is wanted of leaves the poll set: a hang-up would be reported over and over. */
  #setEvents(events: number): void {
    const { poller } = this.#context;
    const { fd } = this.#socket;
    if (events === this.#events) return;
    if (events === 0) poller.remove(fd);
    else if (this.#events === 0) poller.add(fd, events, (ready) => this.#onReady(ready));
    else poller.modify(fd, events);
    this.#events = events;
  }

  #onReady(ready: number): void {
    const ended = (ready & (EPOLL.HUP | EPOLL.ERR)) !== 0;
    this.#context.notify(this, {
      readable: (this.#events & EPOLL.IN) !== 0 && (ended || (ready & EPOLL.IN) !== 0),
      writable: (this.#events & EPOLL.OUT) !== 0 && (ended || (ready & EPOLL.OUT) !== 0),
    });
  }
}

/** The listening socket, and the way to the sockets that guests connect to. */
export class VsockSocket implements Disposable {
  readonly #path: string;
  readonly #listenFd: number;
  readonly #context: Context;
  readonly #handshakes = new Map<number, { socket: UnixSocket; line: string }>();
  readonly #onRefused: (target: VsockTarget) => void;
  readonly #told = new Set<string>();
  #events: VsockEvents | undefined;

  /** Listens at `path`. `guard` wraps each call into the device; `onRefused` is told of each target once. */
  constructor(
    path: string,
    options: {
      iovec: Iovec;
      poller: Poller;
      guard: (work: () => void) => void;
      onRefused: (target: VsockTarget) => void;
    },
  ) {
    this.#path = path;
    this.#onRefused = options.onRefused;
    this.#context = {
      iovec: options.iovec,
      poller: options.poller,
      guard: options.guard,
      notify: (stream, ready) => options.guard(() => this.#events?.onStream(stream, ready)),
    };
    this.#listenFd = listenUnix(path);
    options.poller.add(this.#listenFd, EPOLL.IN, () => this.#accept());
  }

  /** Names the device: it and its backend need each other. */
  attach(events: VsockEvents): void {
    this.#events = events;
  }

  /** The guest connects to a host port. */
  connect(hostPort: number): VsockStream | undefined {
    const fd = connectUnix(`${this.#path}_${hostPort}`);
    return fd === undefined ? undefined : new VsockStream(fd, this.#context, false);
  }

  /** The guest was refused a connection. */
  refused({ cid, port }: VsockTarget): void {
    const name = `${cid}:${port}`;
    if (this.#told.has(name) || this.#told.size >= MAX_TOLD_TARGETS) return;
    this.#told.add(name);
    this.#onRefused({ cid, port });
  }

  /** The device was reset: whoever was about to connect has to try again. */
  reset(): void {
    for (const fd of [...this.#handshakes.keys()]) this.#abandon(fd);
  }

  [Symbol.dispose](): void {
    this.reset();
    this.#context.poller.remove(this.#listenFd);
    close(this.#listenFd);
  }

  #accept(): void {
    const fd = acceptUnix(this.#listenFd);
    if (fd === undefined) return;
    const socket = new UnixSocket(fd, this.#context.iovec);
    if (this.#handshakes.size >= MAX_HANDSHAKES) return socket[Symbol.dispose]();
    this.#handshakes.set(fd, { socket, line: "" });
    this.#context.poller.add(fd, EPOLL.IN, () => this.#context.guard(() => this.#readRequest(fd)));
  }

  #abandon(fd: number): void {
    this.#context.poller.remove(fd);
    this.#handshakes.get(fd)?.socket[Symbol.dispose]();
    this.#handshakes.delete(fd);
  }

  /** Byte by byte: what follows the line belongs to the guest. */
  #readRequest(fd: number): void {
    const handshake = this.#handshakes.get(fd);
    if (handshake === undefined) return;
    for (;;) {
      const byte = handshake.socket.readByte();
      if (byte === undefined) return;
      if (byte === "end" || handshake.line.length >= MAX_REQUEST_BYTES) return this.#abandon(fd);
      if (byte === 0x0a) break;
      handshake.line += String.fromCharCode(byte);
    }
    const port = /^CONNECT ([0-9]+)$/.exec(handshake.line)?.[1];
    if (port === undefined || Number(port) > 0xffff_ffff) return this.#abandon(fd);
    this.#context.poller.remove(fd);
    this.#handshakes.delete(fd);
    const stream = new VsockStream(fd, this.#context, true);
    if (!this.#events?.connectGuest(Number(port), stream)) stream.close();
  }
}
