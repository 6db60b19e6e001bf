/**
 * The packet header of virtio-vsock (virtio 1.2 §5.10.6; linux/virtio_vsock.h).
 *
 * @module
 */

/** `struct virtio_vsock_hdr` */
export const VSOCK_HEADER_BYTES = 44;
export const VIRTIO_VSOCK_TYPE_STREAM = 1;
export const VIRTIO_VSOCK_OP_REQUEST = 1;
export const VIRTIO_VSOCK_OP_RESPONSE = 2;
export const VIRTIO_VSOCK_OP_RST = 3;
export const VIRTIO_VSOCK_OP_SHUTDOWN = 4;
export const VIRTIO_VSOCK_OP_RW = 5;
export const VIRTIO_VSOCK_OP_CREDIT_UPDATE = 6;
export const VIRTIO_VSOCK_OP_CREDIT_REQUEST = 7;
export const VIRTIO_VSOCK_SHUTDOWN_RCV = 1;
export const VIRTIO_VSOCK_SHUTDOWN_SEND = 2;
/** context id of the host (§5.10.4) */
export const VMADDR_CID_HOST = 2;

/** One packet's header. Ports and context ids are the sender's and the receiver's. */
export interface VsockHeader {
  readonly srcCid: number;
  readonly dstCid: number;
  readonly srcPort: number;
  readonly dstPort: number;
  /** payload bytes */
  readonly len: number;
  readonly type: number;
  readonly op: number;
  readonly flags: number;
  /** the sender's receive buffer, bytes */
  readonly bufAlloc: number;
  /** bytes the sender took out of that buffer, mod 2^32 */
  readonly fwdCnt: number;
}

/** Reads a header from its 44 bytes. */
export function decodeVsockHeader(bytes: Uint8Array): VsockHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, VSOCK_HEADER_BYTES);
  const u64 = (at: number): number => view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  return {
    srcCid: u64(0),
    dstCid: u64(8),
    srcPort: view.getUint32(16, true),
    dstPort: view.getUint32(20, true),
    len: view.getUint32(24, true),
    type: view.getUint16(28, true),
    op: view.getUint16(30, true),
    flags: view.getUint32(32, true),
    bufAlloc: view.getUint32(36, true),
    fwdCnt: view.getUint32(40, true),
  };
}

/** Writes a header as its 44 bytes. */
export function encodeVsockHeader(header: VsockHeader): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(VSOCK_HEADER_BYTES));
  view.setBigUint64(0, BigInt(header.srcCid), true);
  view.setBigUint64(8, BigInt(header.dstCid), true);
  view.setUint32(16, header.srcPort, true);
  view.setUint32(20, header.dstPort, true);
  view.setUint32(24, header.len, true);
  view.setUint16(28, header.type, true);
  view.setUint16(30, header.op, true);
  view.setUint32(32, header.flags, true);
  view.setUint32(36, header.bufAlloc, true);
  view.setUint32(40, header.fwdCnt, true);
  return new Uint8Array(view.buffer);
}
