/**
 * The header of a qcow2 image, version 3 (QEMU's docs/interop/qcow2). All numbers are big-endian.
 *
 * @module
 */

/** Bytes of a cluster in the images made here. */
export const CLUSTER_BYTES = 65_536;

/** An image that is damaged, or uses something that is not supported. */
export class Qcow2Error extends Error {
  override readonly name = "Qcow2Error";
}

/** What a header says. */
export interface Qcow2Header {
  readonly sizeBytes: number;
  readonly clusterBits: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly backing?: { readonly path: string; readonly format: "raw" | "qcow2" };
}

const MAGIC = 0x514649fb;
const HEADER_BYTES = 104;
const EXTENSION_END = 0;
const EXTENSION_BACKING_FORMAT = 0xe2792aca;
/** longest backing file name, by the format */
const MAX_BACKING_NAME_BYTES = 1023;
/** QEMU's own limit: 32 MiB of L1 table */
const MAX_L1_ENTRIES = 4 * 1024 * 1024;
const MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024;
/** refcount_order 4: 16 bits */
const REFCOUNT_ORDER = 4;

/**
 * Reads the first cluster (or the first 64 KiB) of an image.
 *
 * @throws {Qcow2Error} if it is no supported qcow2 image
 */
export function parseQcow2Header(bytes: Uint8Array): Qcow2Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.byteLength < HEADER_BYTES || view.getUint32(0) !== MAGIC) {
    throw new Qcow2Error("Not a qcow2 image");
  }
  requireField("version", view.getUint32(4), (version) => version === 3);
  const clusterBits = requireField("cluster_bits", view.getUint32(20), (bits) => bits >= 9 && bits <= 21);
  const clusterBytes = 2 ** clusterBits;
  requireField("crypt_method", view.getUint32(32), (method) => method === 0);
  requireField("incompatible_features", u64(view, 72), (features) => features === 0);
  requireField("refcount_order", view.getUint32(96), (order) => order === REFCOUNT_ORDER);
  const isTable = (offset: number): boolean => offset > 0 && offset % clusterBytes === 0 && offset < 2 ** 52;
  const sizeBytes = requireField("size", u64(view, 24), (size) => size <= 2 ** 52 && size % 512 === 0);
  const l1Needed = Math.ceil(sizeBytes / (clusterBytes * clusterBytes / 8));
  const backing = parseBacking(bytes, view);
  return {
    sizeBytes,
    clusterBits,
    l1Entries: requireField("l1_size", view.getUint32(36), (n) => n >= l1Needed && n <= MAX_L1_ENTRIES),
    l1Offset: requireField("l1_table_offset", u64(view, 40), isTable),
    refcountTableOffset: requireField("refcount_table_offset", u64(view, 48), isTable),
    refcountTableClusters: requireField(
      "refcount_table_clusters",
      view.getUint32(56),
      (n) => n > 0 && n * clusterBytes <= MAX_REFCOUNT_TABLE_BYTES,
    ),
    snapshotCount: view.getUint32(60),
    ...(backing === undefined ? {} : { backing }),
  };
}

function requireField(field: string, value: number, valid: (value: number) => boolean): number {
  if (!valid(value)) throw new Qcow2Error(`Unsupported qcow2 image: ${field} is ${value}`);
  return value;
}

function u64(view: DataView, offset: number): number {
  return view.getUint32(offset) * 2 ** 32 + view.getUint32(offset + 4);
}

function parseBacking(bytes: Uint8Array, view: DataView): Qcow2Header["backing"] {
  const nameOffset = u64(view, 8);
  const nameBytes = view.getUint32(16);
  if (nameOffset === 0) return undefined;
  if (nameBytes > MAX_BACKING_NAME_BYTES || nameOffset + nameBytes > bytes.byteLength) {
    throw new Qcow2Error("Unsupported qcow2 image: the backing file's name is out of place");
  }
  const text = (at: number, length: number): string =>
    new TextDecoder().decode(bytes.subarray(at, at + length));
  let at = requireField("header_length", view.getUint32(100), (n) => n >= HEADER_BYTES && n % 8 === 0);
  while (at + 8 <= bytes.byteLength) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === EXTENSION_END || at + 8 + length > bytes.byteLength) break;
    if (type === EXTENSION_BACKING_FORMAT) {
      const format = text(at + 8, length);
      if (format !== "raw" && format !== "qcow2") break;
      return { path: text(nameOffset, nameBytes), format };
    }
    at += 8 + Math.ceil(length / 8) * 8;
  }
  // Guessing the format from a raw backing file's content would let its guest choose what we open next.
  throw new Qcow2Error("Unsupported qcow2 image: its backing file has no format raw or qcow2 written down");
}

/**
 * The first four clusters of a new image without data: header, refcount table, first refcount block, L1 table.
 *
 * @throws {RangeError} if the disk does not fit one cluster of L1 table (4 TiB), or the name is too long
 */
export function newQcow2Image(
  sizeBytes: number,
  backing?: { readonly path: string; readonly format: "raw" | "qcow2" },
): Uint8Array<ArrayBuffer> {
  const l1Entries = Math.ceil(sizeBytes / (CLUSTER_BYTES * CLUSTER_BYTES / 8));
  const name = new TextEncoder().encode(backing?.path ?? "");
  if (l1Entries * 8 > CLUSTER_BYTES) throw new RangeError(`Cannot make a disk of ${sizeBytes} bytes`);
  if (name.byteLength > MAX_BACKING_NAME_BYTES) throw new RangeError("Cannot name so long a backing file");
  const bytes = new Uint8Array(4 * CLUSTER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint32(4, 3);
  view.setUint32(20, Math.log2(CLUSTER_BYTES));
  view.setBigUint64(24, BigInt(sizeBytes));
  view.setUint32(36, Math.max(l1Entries, 1));
  view.setBigUint64(40, BigInt(3 * CLUSTER_BYTES));
  view.setBigUint64(48, BigInt(CLUSTER_BYTES));
  view.setUint32(56, 1);
  view.setUint32(96, REFCOUNT_ORDER);
  view.setUint32(100, HEADER_BYTES);
  if (backing !== undefined) {
    view.setUint32(HEADER_BYTES, EXTENSION_BACKING_FORMAT);
    view.setUint32(HEADER_BYTES + 4, backing.format.length);
    new TextEncoder().encodeInto(backing.format, bytes.subarray(HEADER_BYTES + 8));
    // the format padded to 8 bytes, then the end extension, then the name
    const nameOffset = HEADER_BYTES + 8 + 8 + 8;
    view.setBigUint64(8, BigInt(nameOffset));
    view.setUint32(16, name.byteLength);
    bytes.set(name, nameOffset);
  }
  view.setBigUint64(CLUSTER_BYTES, BigInt(2 * CLUSTER_BYTES));
  for (let cluster = 0; cluster < 4; cluster++) view.setUint16(2 * CLUSTER_BYTES + cluster * 2, 1);
  return bytes;
}
