/**
 * A TAP device: whole Ethernet frames with a virtio header, from and to the host's network stack
 * (linux/if_tun.h, Documentation/networking/tuntap).
 *
 * @module
 */

import { SysError } from "../ffi/errno.ts";
import type { Iovec } from "../ffi/iovec.ts";
import { EPOLL, type Poller } from "../ffi/poller.ts";
import { close, ioctlBuffer, ioctlValue, O, open, readv, writev } from "../ffi/sys.ts";

// linux/if_tun.h
const TUNSETIFF = 0x400454can;
const TUNSETOFFLOAD = 0x400454d0n;
const TUNSETVNETHDRSZ = 0x400454d8n;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** `struct ifreq`: char ifr_name[16], short ifr_flags, … */
const IFREQ_BYTES = 40;
const IFNAMSIZ = 16;

/** The host's side of a guest's network interface. */
export class Tap implements Disposable {
  readonly #fd: number;
  readonly #iovec: Iovec;
  readonly #poller: Poller;
  readonly #onPackets: () => void;
  #watched = false;

  /**
   * Opens the TAP device `name`, which is made if it does not exist.
   *
   * @throws {SysError} EPERM without the right to do so, EBUSY if another program has it
   */
  constructor(
    name: string,
    options: { headerBytes: number; iovec: Iovec; poller: Poller; onPackets: () => void },
  ) {
    this.#iovec = options.iovec;
    this.#poller = options.poller;
    this.#onPackets = options.onPackets;
    this.#fd = open("/dev/net/tun", O.RDWR | O.NONBLOCK);
    try {
      const request = new Uint8Array(IFREQ_BYTES);
      new TextEncoder().encodeInto(name, request.subarray(0, IFNAMSIZ - 1));
      new DataView(request.buffer).setUint16(IFNAMSIZ, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
      ioctlBuffer(this.#fd, TUNSETIFF, request, `TUNSETIFF "${name}"`);
      const headerSize = new Uint8Array(Uint32Array.of(options.headerBytes).buffer);
      ioctlBuffer(this.#fd, TUNSETVNETHDRSZ, headerSize, "TUNSETVNETHDRSZ");
      // The guest takes no offloads: what the host sends it is whole and checksummed.
      ioctlValue(this.#fd, TUNSETOFFLOAD, 0n, "TUNSETOFFLOAD");
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

  [Symbol.dispose](): void {
    this.wantPackets(false);
    close(this.#fd);
  }
}
