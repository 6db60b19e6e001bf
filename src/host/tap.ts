/**
 * A TAP device: whole Ethernet frames with a virtio header, from and to the host's network stack
 * (linux/if_tun.h, Documentation/networking/tuntap).
 *
 * @module
 */

import { ERRNO, SysError } from "../ffi/errno.ts";
import type { Iovec } from "../ffi/iovec.ts";
import { EPOLL, type Poller } from "../ffi/poller.ts";
import { close, ioctlBuffer, ioctlValue, O, open, readv, writev } from "../ffi/sys.ts";

// linux/if_tun.h
const TUNSETIFF = 0x400454can;
const TUNSETOFFLOAD = 0x400454d0n;
const TUNSETVNETHDRSZ = 0x400454d8n;
const TUNSETQUEUE = 0x400454d9n;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_ATTACH_QUEUE = 0x0200;
const IFF_DETACH_QUEUE = 0x0400;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** Offloads, best first: older kernels refuse a request that names one they do not know. */
const OFFLOAD_SETS = [0x1f, 0x0f] as const;
/** `struct ifreq`: char ifr_name[16], short ifr_flags, … */
const IFREQ_BYTES = 40;
const IFNAMSIZ = 16;

/** How a TAP device is used. */
export interface TapOptions {
  /** size of the header in front of each frame */
  readonly headerBytes: number;
  /** queues to open; a device that was made without `multi_queue` has one, whatever this says */
  readonly queueCount: number;
  readonly iovec: Iovec;
  readonly poller: Poller;
  /** told of frames that wait in a queue, while it wants to know */
  readonly onPackets: (queueIndex: number) => void;
}

/** The host's side of a guest's network interface. */
export class Tap implements Disposable {
  /** TUN_F_… bits that the host can do */
  readonly offloads: number;
  readonly queues: readonly TapQueue[];
  /** how many of them, from the first on, the kernel gives frames to */
  #inUse: number;

  /**
   * Opens the TAP device `name`, which is made if it does not exist. Only its first queue is in use.
   *
   * @throws {SysError} EPERM without the right to do so, EBUSY if another program has it (a device that was made with
   *   `multi_queue` is shared then: whoever makes one for several VMs must not do so)
   */
  constructor(name: string, options: TapOptions) {
    using opened = new DisposableStack();
    const openQueue = (flags: number, index: number): TapQueue =>
      opened.use(new TapQueue(name, flags, options, () => options.onPackets(index)));
    const multiQueue = options.queueCount > 1;
    const { flags, queue: first } = openFirst(multiQueue, (flags) => openQueue(flags, 0));
    const isMulti = multiQueue && (flags & IFF_MULTI_QUEUE) !== 0;
    const more = Array.from({ length: isMulti ? options.queueCount - 1 : 0 }, (_, index) => {
      return openQueue(flags, index + 1);
    });
    this.queues = [first, ...more];
    // The header's size and the offloads are the device's: any queue sets them for all.
    first.setHeaderBytes(options.headerBytes);
    this.offloads = OFFLOAD_SETS.find((offloads) => first.tryOffloads(offloads)) ?? 0;
    // Until the guest says otherwise, what the host sends it is whole and checksummed, and comes by one queue.
    this.setOffloads(0);
    this.#inUse = this.queues.length;
    this.useQueues(1);
    opened.move();
  }

  setOffloads(offloads: number): void {
    this.queues[0]?.setOffloads(offloads);
  }

  /** Has the kernel spread frames over the first `count` queues and no others; false if it refuses. */
  useQueues(count: number): boolean {
    const before = this.#inUse;
    try {
      for (; this.#inUse < count; this.#inUse++) this.queues[this.#inUse]?.attach();
      this.#detachFrom(count);
      return true;
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#detachFrom(before);
      return false;
    }
  }

  /** The kernel numbers queues as they come and go: so the last goes first. */
  #detachFrom(count: number): void {
    for (; this.#inUse > count; this.#inUse--) this.queues[this.#inUse - 1]?.detach();
  }

  [Symbol.dispose](): void {
    for (const queue of this.queues) queue[Symbol.dispose]();
  }
}

/** One queue of frames: a descriptor. */
export class TapQueue implements Disposable {
  readonly #fd: number;
  readonly #iovec: Iovec;
  readonly #poller: Poller;
  readonly #onPackets: () => void;
  #watched = false;

  /** Opens a queue of the TAP device `name`, with these flags beside those that all have. */
  constructor(
    name: string,
    flags: number,
    { iovec, poller }: Pick<TapOptions, "iovec" | "poller">,
    onPackets: () => void,
  ) {
    this.#iovec = iovec;
    this.#poller = poller;
    this.#onPackets = onPackets;
    this.#fd = open("/dev/net/tun", O.RDWR | O.NONBLOCK);
    try {
      const request = ifreq(name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
      ioctlBuffer(this.#fd, TUNSETIFF, request, `TUNSETIFF "${name}"`);
    } catch (error) {
      close(this.#fd);
      throw error;
    }
  }

  receive(views: Uint8Array<ArrayBuffer>[]): number | undefined {
    return readv(this.#fd, this.#iovec.bytes, this.#iovec.fill(views));
  }

  send(views: Uint8Array<ArrayBuffer>[]): void {
    try {
      writev(this.#fd, this.#iovec.bytes, this.#iovec.fill(views));
    } catch (error) {
      // EINVAL: a header that makes no sense; EIO: the interface is down. The frame is lost, as on a wire.
      if (!(error instanceof SysError)) throw error;
    }
  }

  wantPackets(wanted: boolean): void {
    if (wanted === this.#watched) return;
    this.#watched = wanted;
    if (wanted) this.#poller.add(this.#fd, EPOLL.IN, this.#onPackets);
    else this.#poller.remove(this.#fd);
  }

  setHeaderBytes(headerBytes: number): void {
    const size = new Uint8Array(Uint32Array.of(headerBytes).buffer);
    ioctlBuffer(this.#fd, TUNSETVNETHDRSZ, size, "TUNSETVNETHDRSZ");
  }

  setOffloads(offloads: number): void {
    ioctlValue(this.#fd, TUNSETOFFLOAD, BigInt(offloads), "TUNSETOFFLOAD");
  }

  /** Whether the kernel knows these offloads; it then has them. */
  tryOffloads(offloads: number): boolean {
    return unlessInvalid(() => this.setOffloads(offloads)) !== "invalid";
  }

  /** Has the kernel give it frames again. */
  attach(): void {
    ioctlBuffer(this.#fd, TUNSETQUEUE, ifreq("", IFF_ATTACH_QUEUE), "TUNSETQUEUE");
  }

  /** Has the kernel give it no frames; those that wait are lost. */
  detach(): void {
    // The kernel says of a queue without a device that it has an error, for ever.
    this.wantPackets(false);
    ioctlBuffer(this.#fd, TUNSETQUEUE, ifreq("", IFF_DETACH_QUEUE), "TUNSETQUEUE");
  }

  [Symbol.dispose](): void {
    this.wantPackets(false);
    close(this.#fd);
  }
}

/** A device that exists was made with several queues or not, and the kernel takes no other word for it (EINVAL). */
function openFirst(
  multiQueue: boolean,
  openQueue: (flags: number) => TapQueue,
): { flags: number; queue: TapQueue } {
  const [wanted, other] = multiQueue ? [IFF_MULTI_QUEUE, 0] : [0, IFF_MULTI_QUEUE];
  const queue = unlessInvalid(() => openQueue(wanted));
  return queue === "invalid" ? { flags: other, queue: openQueue(other) } : { flags: wanted, queue };
}

function unlessInvalid<T>(call: () => T): T | "invalid" {
  try {
    return call();
  } catch (error) {
    if (error instanceof SysError && error.errno === ERRNO.EINVAL) return "invalid";
    throw error;
  }
}

function ifreq(name: string, flags: number): Uint8Array<ArrayBuffer> {
  const request = new Uint8Array(IFREQ_BYTES);
  new TextEncoder().encodeInto(name, request.subarray(0, IFNAMSIZ - 1));
  new DataView(request.buffer).setUint16(IFNAMSIZ, flags, true);
  return request;
}
