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
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** Offloads, best first: older kernels refuse a request that names one they do not know. */
const OFFLOAD_SETS = [0x1f, 0x0f] as const;
/** `struct ifreq`: char ifr_name[16], short ifr_flags, … */
const IFREQ_BYTES = 40;
const IFNAMSIZ = 16;

/** The host's side of a guest's network interface. */
export class Tap implements Disposable {
  /** TUN_F_… bits that the host can do */
  readonly offloads: number;
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
      this.offloads = OFFLOAD_SETS.find((offloads) => this.#tryOffloads(offloads)) ?? 0;
      // Until the guest says otherwise, what the host sends it is whole and checksummed.
      this.setOffloads(0);
    } catch (error) {
      close(this.#fd);
      throw error;
    }
  }

  setOffloads(offloads: number): void {
    ioctlValue(this.#fd, TUNSETOFFLOAD, BigInt(offloads), "TUNSETOFFLOAD");
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

  #tryOffloads(offloads: number): boolean {
    try {
      this.setOffloads(offloads);
      return true;
    } catch (error) {
      if (error instanceof SysError && error.errno === ERRNO.EINVAL) return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.wantPackets(false);
    close(this.#fd);
  }
}
