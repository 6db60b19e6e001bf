/**
 * virtio block device (virtio 1.2 §5.2).
 *
 * The guest controls the request header, the sector, the buffers and their lengths. A header is copied out once and
 * parsed into a request whose fields are all proven against the disk's size; anything else is completed with an
 * error status. Every request is answered in its last writable byte; one without such a byte is given back with
 * length 0. The host's work for a request is bounded by {@linkcode MAX_TRANSFER_BYTES}, for DISCARD and WRITE_ZEROES
 * by {@linkcode MAX_ZERO_SECTORS} a segment; a queue has no more requests under way than it has entries.
 *
 * Requests run in parallel and end in any order. After a reset none of them touches the guest's memory.
 *
 * @module
 */

import { VIRTIO_ID_BLOCK } from "../src/virtio/abi.ts";
import type { DescriptorChain } from "../src/virtio/descriptor_chain.ts";
import type { ActiveContext, VirtioDevice } from "../src/virtio/device.ts";
import type { DeviceQueue } from "../src/virtio/device_queue.ts";
import { RateGate, type RateLimiter } from "./rate_limiter.ts";

// linux/virtio_blk.h
export const VIRTIO_BLK_F_SEG_MAX = 1n << 2n;
export const VIRTIO_BLK_F_RO = 1n << 5n;
export const VIRTIO_BLK_F_BLK_SIZE = 1n << 6n;
export const VIRTIO_BLK_F_FLUSH = 1n << 9n;
export const VIRTIO_BLK_F_TOPOLOGY = 1n << 10n;
export const VIRTIO_BLK_F_MQ = 1n << 12n;
export const VIRTIO_BLK_F_DISCARD = 1n << 13n;
export const VIRTIO_BLK_F_WRITE_ZEROES = 1n << 14n;
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;
export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;
/** Longest serial number (§5.2.6). */
export const VIRTIO_BLK_ID_BYTES = 20;

const SECTOR_BYTES = 512;
/** What host file systems work in: smaller writes are read, changed and written back there (§5.2.4 topology). */
const PHYSICAL_BLOCK_BYTES = 4096;
const QUEUE_SIZE = 256;
/** Buffers of one request, without header and status (§5.2.4 seg_max). */
const SEG_MAX = QUEUE_SIZE - 2;
/** Longest range of one DISCARD or WRITE_ZEROES segment: 64 MiB. */
const MAX_ZERO_SECTORS = 131_072;
/** Segments of one DISCARD or WRITE_ZEROES request. */
const MAX_ZERO_SEGMENTS = 16;
const ZERO_SEGMENT_BYTES = 16;
const HEADER_BYTES = 16;
/** Longest read or write. Without it, buffers that name the same RAM again and again make one request 4 GiB. */
const MAX_TRANSFER_BYTES = 64 * 1024 * 1024;

/** Called once, when a request is over; `error` says that the host failed. */
type OnDone = (error?: unknown) => void;

/**
 * A disk. Offsets and sizes are bytes. Each call begins a request and may return before it is over; a flush covers
 * what was over when it was asked for.
 */
export interface BlockBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** unit that writes are best aligned to */
  readonly unitBytes: number;
  read(views: Uint8Array<ArrayBuffer>[], diskOffset: number, done: OnDone): void;
  write(views: Uint8Array<ArrayBuffer>[], diskOffset: number, done: OnDone): void;
  /** makes completed writes survive a power cut */
  flush(done: OnDone): void;
  /** makes the range read as zeros, freeing its space if `unmap` */
  writeZeroes(diskOffset: number, sizeBytes: number, unmap: boolean, done: OnDone): void;
  /** waits until every request is over */
  finish(): void;
}

/** How a block device is offered. */
export interface BlockOptions {
  /** what GET_ID answers: at most {@linkcode VIRTIO_BLK_ID_BYTES} bytes */
  readonly serial: string;
  /** number of request queues (default 1) */
  readonly queueCount?: number;
  readonly limiter?: RateLimiter | undefined;
  /** hears of I/O that the host refused */
  readonly onHostError: (error: unknown) => void;
  /** calls {@linkcode VirtioBlk.resume} in this many `ms`; needed with a limiter */
  readonly wakeIn?: (delayMs: number) => void;
}

/** A range in bytes. */
interface Extent {
  readonly diskOffset: number;
  readonly sizeBytes: number;
  readonly unmap: boolean;
}

type BlockRequest =
  | { readonly kind: "read" | "write"; readonly diskOffset: number; readonly sizeBytes: number }
  | { readonly kind: "flush" | "get_id" }
  | { readonly kind: "zero"; readonly extents: readonly Extent[] }
  | { readonly kind: "bad" | "unsupported" };

/** The block device. */
export class VirtioBlk implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_BLOCK;
  readonly queueSizes: readonly number[];
  readonly features: bigint;
  readonly #backend: BlockBackend;
  readonly #options: BlockOptions;
  readonly #gate: RateGate;
  #queues: readonly (DeviceQueue | undefined)[] = [];

  constructor(backend: BlockBackend, options: BlockOptions) {
    this.#backend = backend;
    this.#options = options;
    this.#gate = new RateGate(options.limiter, options.wakeIn);
    const { queueCount = 1 } = options;
    this.queueSizes = Array.from({ length: queueCount }, () => QUEUE_SIZE);
    this.features = VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE | VIRTIO_BLK_F_FLUSH |
      VIRTIO_BLK_F_TOPOLOGY |
      (queueCount > 1 ? VIRTIO_BLK_F_MQ : 0n) |
      (backend.readOnly ? VIRTIO_BLK_F_RO : VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES);
  }

  /** `struct virtio_blk_config`, §5.2.4 */
  config(): Uint8Array {
    const view = new DataView(new ArrayBuffer(60));
    view.setBigUint64(0, BigInt(Math.floor(this.#backend.sizeBytes / SECTOR_BYTES)), true);
    view.setUint32(12, SEG_MAX, true);
    view.setUint32(20, SECTOR_BYTES, true);
    view.setUint8(24, Math.log2(PHYSICAL_BLOCK_BYTES / SECTOR_BYTES)); // physical_block_exp
    view.setUint16(26, PHYSICAL_BLOCK_BYTES / SECTOR_BYTES, true); // min_io_size
    view.setUint32(28, this.#backend.unitBytes / SECTOR_BYTES, true); // opt_io_size
    view.setUint16(34, this.queueSizes.length, true); // num_queues
    view.setUint32(36, MAX_ZERO_SECTORS, true); // max_discard_sectors
    view.setUint32(40, MAX_ZERO_SEGMENTS, true); // max_discard_seg
    view.setUint32(44, 1, true); // discard_sector_alignment
    view.setUint32(48, MAX_ZERO_SECTORS, true); // max_write_zeroes_sectors
    view.setUint32(52, MAX_ZERO_SEGMENTS, true); // max_write_zeroes_seg
    view.setUint8(56, 1); // write_zeroes_may_unmap
    return new Uint8Array(view.buffer);
  }

  activate({ queues }: ActiveContext): void {
    this.#queues = queues;
  }

  notify(queueIndex: number): boolean {
    if (this.#gate.closed) return false;
    const queue = this.#queues[queueIndex];
    const serve = (chain: DescriptorChain, giveBack: () => void): void => this.#serve(chain, giveBack);
    const left = queue?.drainLater(serve, () => this.#gate.mayStart()) ?? false;
    return left && !this.#gate.closed;
  }

  /** The time that `wakeIn` was asked for is over. */
  resume(): void {
    this.#gate.reopen(this.#queues.length, (queueIndex) => this.notify(queueIndex));
  }

  /** Tells the driver of requests that ended since the last notification. */
  flushCompleted(): void {
    for (const queue of this.#queues) queue?.flush();
  }

  reset(): void {
    this.#backend.finish();
    this.#queues = [];
  }

  #serve(chain: DescriptorChain, giveBack: () => void): void {
    const { writer } = chain;
    // The status is the last writable byte; data comes before it. Without one there is nowhere to answer.
    const dataBytes = writer.availableBytes - 1;
    if (dataBytes < 0) return giveBack();
    const data = writer.views(dataBytes);
    const request = parseRequest(chain, dataBytes, this.#backend);
    const moved = request.kind === "read" || request.kind === "write" ? request.sizeBytes : 0;
    this.#gate.charge(moved);
    this.#execute(request, chain, data, (status) => {
      // The status byte counts as written, and so does all before it (§2.7.8.2): reads filled it or it is stale.
      if (status === VIRTIO_BLK_S_OK && (request.kind === "read" || request.kind === "get_id")) {
        writer.advance(dataBytes);
      }
      writer.write(Uint8Array.of(status));
      giveBack();
    });
  }

  #execute(
    request: BlockRequest,
    chain: DescriptorChain,
    data: Uint8Array<ArrayBuffer>[],
    answer: (status: number) => void,
  ): void {
    const done = (error?: unknown): void => {
      if (error === undefined) return answer(VIRTIO_BLK_S_OK);
      this.#options.onHostError(error);
      answer(VIRTIO_BLK_S_IOERR);
    };
    switch (request.kind) {
      case "read":
        return this.#backend.read(data, request.diskOffset, done);
      case "write":
        return this.#backend.write(chain.reader.views(request.sizeBytes), request.diskOffset, done);
      case "flush":
        return this.#backend.flush(done);
      case "get_id":
        this.#writeSerial(data);
        return done();
      case "zero":
        return this.#zero(request.extents, 0, done);
      case "bad":
        return answer(VIRTIO_BLK_S_IOERR);
      case "unsupported":
        return answer(VIRTIO_BLK_S_UNSUPP);
    }
  }

  /** Zeroes one range after the other; the first that fails is the last. */
  #zero(extents: readonly Extent[], index: number, done: OnDone): void {
    const extent = extents[index];
    if (extent === undefined) return done();
    const { diskOffset, sizeBytes, unmap } = extent;
    this.#backend.writeZeroes(diskOffset, sizeBytes, unmap, (error) => {
      if (error !== undefined) return done(error);
      this.#zero(extents, index + 1, done);
    });
  }

  #writeSerial(data: Uint8Array<ArrayBuffer>[]): void {
    const id = new Uint8Array(VIRTIO_BLK_ID_BYTES);
    new TextEncoder().encodeInto(this.#options.serial, id);
    let done = 0;
    for (const view of data) {
      view.set(id.subarray(done, done + view.byteLength));
      done += view.byteLength;
    }
  }
}

/** Reads a request's header and proves it against the disk (§5.2.6). */
function parseRequest({ reader }: DescriptorChain, dataBytes: number, disk: BlockBackend): BlockRequest {
  // A copy: the guest may change the header while it is looked at.
  const header = reader.copy(HEADER_BYTES);
  if (header === undefined) return { kind: "bad" };
  const view = new DataView(header.buffer);
  const sector = view.getUint32(8, true) + view.getUint32(12, true) * 2 ** 32;
  const diskOffset = sector * SECTOR_BYTES;
  switch (view.getUint32(0, true)) {
    case VIRTIO_BLK_T_IN:
      return transfer("read", diskOffset, dataBytes, disk);
    case VIRTIO_BLK_T_OUT:
      if (disk.readOnly) return { kind: "bad" }; // §5.2.6.2
      return transfer("write", diskOffset, reader.availableBytes, disk);
    case VIRTIO_BLK_T_FLUSH:
      return { kind: "flush" };
    case VIRTIO_BLK_T_GET_ID:
      return dataBytes === VIRTIO_BLK_ID_BYTES ? { kind: "get_id" } : { kind: "bad" };
    case VIRTIO_BLK_T_DISCARD:
      return zeroRequest(reader.copy(Math.min(reader.availableBytes, 4096)), disk, true);
    case VIRTIO_BLK_T_WRITE_ZEROES:
      return zeroRequest(reader.copy(Math.min(reader.availableBytes, 4096)), disk, false);
    default:
      return { kind: "unsupported" };
  }
}

function transfer(
  kind: "read" | "write",
  diskOffset: number,
  sizeBytes: number,
  disk: BlockBackend,
): BlockRequest {
  const fits = sizeBytes % SECTOR_BYTES === 0 && sizeBytes <= MAX_TRANSFER_BYTES &&
    diskOffset + sizeBytes <= disk.sizeBytes;
  return fits ? { kind, diskOffset, sizeBytes } : { kind: "bad" };
}

/** `struct virtio_blk_discard_write_zeroes`[]: le64 sector, le32 num_sectors, le32 flags (bit 0: unmap) */
function zeroRequest(bytes: Uint8Array | undefined, disk: BlockBackend, discard: boolean): BlockRequest {
  const count = (bytes?.byteLength ?? 0) / ZERO_SEGMENT_BYTES;
  if (bytes === undefined || disk.readOnly) return { kind: "bad" };
  if (!Number.isInteger(count) || count === 0 || count > MAX_ZERO_SEGMENTS) return { kind: "bad" };
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const extents: Extent[] = [];
  for (let at = 0; at < bytes.byteLength; at += ZERO_SEGMENT_BYTES) {
    const diskOffset = (view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32) * SECTOR_BYTES;
    const sectors = view.getUint32(at + 8, true);
    const flags = view.getUint32(at + 12, true);
    // §5.2.6.2: reserved flags, and unmap on a DISCARD, are answered with UNSUPP
    if (flags > 1 || (discard && flags !== 0)) return { kind: "unsupported" };
    if (sectors > MAX_ZERO_SECTORS || diskOffset + sectors * SECTOR_BYTES > disk.sizeBytes) {
      return { kind: "bad" };
    }
    extents.push({ diskOffset, sizeBytes: sectors * SECTOR_BYTES, unmap: discard || flags === 1 });
  }
  return { kind: "zero", extents };
}
