/**
 * What a network device and its driver agree on (virtio 1.2 §5.1.3): feature bits, and which work on a packet each
 * side may leave to the other.
 *
 * @module
 */

// linux/virtio_net.h
export const VIRTIO_NET_F_CSUM = 1n << 0n;
export const VIRTIO_NET_F_GUEST_CSUM = 1n << 1n;
export const VIRTIO_NET_F_MTU = 1n << 3n;
export const VIRTIO_NET_F_MAC = 1n << 5n;
export const VIRTIO_NET_F_GUEST_TSO4 = 1n << 7n;
export const VIRTIO_NET_F_GUEST_TSO6 = 1n << 8n;
export const VIRTIO_NET_F_GUEST_ECN = 1n << 9n;
export const VIRTIO_NET_F_GUEST_UFO = 1n << 10n;
export const VIRTIO_NET_F_HOST_TSO4 = 1n << 11n;
export const VIRTIO_NET_F_HOST_TSO6 = 1n << 12n;
export const VIRTIO_NET_F_HOST_ECN = 1n << 13n;
export const VIRTIO_NET_F_HOST_UFO = 1n << 14n;
export const VIRTIO_NET_F_MRG_RXBUF = 1n << 15n;
export const VIRTIO_NET_F_STATUS = 1n << 16n;
export const VIRTIO_NET_F_CTRL_VQ = 1n << 17n;
export const VIRTIO_NET_F_MQ = 1n << 22n;

/** `struct virtio_net_hdr_v1`: always there, with num_buffers, under VERSION_1 (§5.1.6.1) */
export const NET_HEADER_BYTES = 12;
/** A 64 KiB segment for the host to cut, with its link header. */
export const MAX_FRAME_BYTES = NET_HEADER_BYTES + 14 + 65_535;
/** A frame for a guest that takes no segments: the largest that links carry ("jumbo"), with its link header. */
const MAX_WHOLE_FRAME_BYTES = NET_HEADER_BYTES + 18 + 9000;
/** With these the guest may be sent what is longer than a frame. */
const SEGMENTS = VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_GUEST_UFO;

/** What a packet for the guest may leave to it; the numbers are those of linux/if_tun.h (TUN_F_…). */
export const OFFLOAD = { csum: 1, tso4: 2, tso6: 4, ecn: 8, ufo: 16 } as const;

/** Each offload: the feature with which the guest takes it, and that with which the host does. */
const OFFLOAD_FEATURES = [
  { flag: OFFLOAD.csum, guest: VIRTIO_NET_F_GUEST_CSUM, host: VIRTIO_NET_F_CSUM },
  { flag: OFFLOAD.tso4, guest: VIRTIO_NET_F_GUEST_TSO4, host: VIRTIO_NET_F_HOST_TSO4 },
  { flag: OFFLOAD.tso6, guest: VIRTIO_NET_F_GUEST_TSO6, host: VIRTIO_NET_F_HOST_TSO6 },
  { flag: OFFLOAD.ecn, guest: VIRTIO_NET_F_GUEST_ECN, host: VIRTIO_NET_F_HOST_ECN },
  { flag: OFFLOAD.ufo, guest: VIRTIO_NET_F_GUEST_UFO, host: VIRTIO_NET_F_HOST_UFO },
] as const;

/** The features for what the host can do: bits of {@linkcode OFFLOAD}. */
export function offloadFeatures(offloads: number): bigint {
  return OFFLOAD_FEATURES.filter(({ flag }) => (offloads & flag) !== 0)
    .reduce((features, { guest, host }) => features | guest | host, 0n);
}

/**
 * What the guest takes: bits of {@linkcode OFFLOAD}. A feature without the one that it needs (§5.1.3.1) is as if it were
 * not there.
 */
export function guestOffloads(features: bigint): number {
  const offloads = OFFLOAD_FEATURES.filter(({ guest }) => (features & guest) !== 0n)
    .reduce((flags, { flag }) => flags | flag, 0);
  if ((offloads & OFFLOAD.csum) === 0) return 0;
  const segments = (offloads & (OFFLOAD.tso4 | OFFLOAD.tso6)) !== 0;
  return segments ? offloads : offloads & ~OFFLOAD.ecn;
}

/** Longest packet that a guest with these features may be sent, with its header, in bytes. */
export function longestForGuest(features: bigint): number {
  return (features & SEGMENTS) === 0n ? MAX_WHOLE_FRAME_BYTES : MAX_FRAME_BYTES;
}
