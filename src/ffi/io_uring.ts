/**
 * File I/O in the background: the kernel's submission and completion rings (`io_uring(7)`, linux/io_uring.h). An
 * eventfd tells of completions, so that the thread which submits never has to wait for a disk.
 *
 * @module
 */

import { ERRNO, SysError } from "./errno.ts";
import { drainEventFd, EventFd } from "./event_fd.ts";
import { IOV_MAX, Iovec } from "./iovec.ts";
import { libc } from "./libc.ts";
import { Mapping } from "./mapping.ts";
import { check, close, lastErrno } from "./sys.ts";

// x86-64's system call numbers: the C library has no wrappers
const SYS_SETUP = 425n;
const SYS_ENTER = 426n;
const SYS_REGISTER = 427n;

const OFF_SQ_RING = 0;
const OFF_SQES = 0x1000_0000;
const ENTER_GETEVENTS = 1;
/**
 * For every completion. Not REGISTER_EVENTFD_ASYNC, which leaves out those that the kernel makes on this thread, also the
 * late ones: of a page that had to be read first nobody would hear.
 */
const REGISTER_EVENTFD = 4n;
const FEAT_SINGLE_MMAP = 1;
const FEAT_SUBMIT_STABLE = 4;
/** Linux 5.6, which also has {@linkcode OP_READ} */
const FEAT_RW_CUR_POS = 8;
const FEATURES = FEAT_SINGLE_MMAP | FEAT_SUBMIT_STABLE | FEAT_RW_CUR_POS;
const MAP_SHARED_POPULATE = 0x8001;

const SQE_BYTES = 64;
/** `struct iovec` */
const IOVEC_BYTES = 16;
const CQE_BYTES = 16;
/** `struct io_uring_params` */
const PARAMS_BYTES = 120;

const OP_FSYNC = 3;
const OP_READV = 1;
const OP_WRITEV = 2;
const OP_READ = 22;
const OP_WRITE = 23;
/** Entries of iovec arrays that wait to be submitted. */
const IOVEC_ENTRIES = 4 * IOV_MAX;
const FSYNC_DATASYNC = 1;

type Views = readonly Uint8Array<ArrayBuffer>[];

/** Called with what the system call would have returned: a count, or a negative errno. */
export type OnComplete = (result: number) => void;

/** Which of the rings' fields lie where, from `struct io_uring_params`. */
interface Offsets {
  readonly sqTail: number;
  readonly sqMask: number;
  readonly sqArray: number;
  readonly cqHead: number;
  readonly cqTail: number;
  readonly cqMask: number;
  readonly cqes: number;
}

interface Operation {
  readonly done: OnComplete;
  /** kept alive until the kernel is done with them */
  readonly views: Views;
}

/** A pair of rings that this object owns. One thread uses it. */
export class IoUring implements Disposable {
  /** becomes readable when operations have completed */
  readonly eventFd: number;
  readonly #fd: number;
  readonly #entries: number;
  readonly #rings: Mapping;
  readonly #ringWords: Int32Array<ArrayBuffer>;
  readonly #ringView: DataView<ArrayBuffer>;
  readonly #sqes: DataView<ArrayBuffer>;
  readonly #sqeBytes: Uint8Array<ArrayBuffer>;
  readonly #offsets: Offsets;
  readonly #iovec: Iovec;
  readonly #iovecAddr: number;
  readonly #operations = new Map<number, Operation>();
  readonly #resources: DisposableStack;
  #nextId = 0;
  /** operations that the kernel has not been told of */
  #unsubmitted = 0;
  #iovecsUsed = 0;

  private constructor(entries: number, ram: { buffer: ArrayBuffer; hostAddr: bigint }) {
    using resources = new DisposableStack();
    const params = new DataView(new ArrayBuffer(PARAMS_BYTES));
    const setup = libc.syscall(SYS_SETUP, BigInt(entries), addressOf(params), 0n, 0n, 0n, 0n);
    this.#fd = check(Number(setup), "io_uring_setup");
    resources.defer(() => close(this.#fd));
    const features = params.getUint32(20, true);
    if ((features & FEATURES) !== FEATURES) {
      throw new SysError("io_uring_setup", ERRNO.ENOSYS);
    }
    this.#entries = params.getUint32(0, true);
    const cqEntries = params.getUint32(4, true);
    this.#offsets = readOffsets(params);
    const ringBytes = Math.max(
      this.#offsets.sqArray + this.#entries * 4,
      this.#offsets.cqes + cqEntries * CQE_BYTES,
    );
    this.#rings = resources.use(Mapping.ofFd(this.#fd, ringBytes, MAP_SHARED_POPULATE, OFF_SQ_RING));
    const sqes = resources.use(
      Mapping.ofFd(this.#fd, this.#entries * SQE_BYTES, MAP_SHARED_POPULATE, OFF_SQES),
    );
    this.#ringWords = new Int32Array(this.#rings.buffer, 0, Math.floor(ringBytes / 4));
    this.#ringView = new DataView(this.#rings.buffer);
    this.#sqes = new DataView(sqes.buffer);
    this.#sqeBytes = new Uint8Array(sqes.buffer);
    // The kernel copies an iovec array while it is submitted (FEAT_SUBMIT_STABLE): then its place is free again.
    this.#iovec = new Iovec(ram.buffer, ram.hostAddr, IOVEC_ENTRIES);
    this.#iovecAddr = Number(addressOf(this.#iovec.bytes));
    const event = resources.use(new EventFd());
    this.eventFd = event.fd;
    const eventFds = new Int32Array([event.fd]);
    const register = [BigInt(this.#fd), REGISTER_EVENTFD, addressOf(eventFds), 1n] as const;
    check(Number(libc.syscall(SYS_REGISTER, ...register, 0n, 0n)), "io_uring_register");
    this.#resources = resources.move();
  }

  /**
   * Makes rings of `entries` operations; `undefined` where the kernel has no io_uring or forbids it.
   *
   * @param ram the mapping that most buffers lie in
   */
  static open(entries: number, ram: { buffer: ArrayBuffer; hostAddr: bigint }): IoUring | undefined {
    try {
      return new IoUring(entries, ram);
    } catch (error) {
      const absent: readonly number[] = [ERRNO.ENOSYS, ERRNO.EPERM, ERRNO.EACCES];
      if (error instanceof SysError && absent.includes(error.errno)) return undefined;
      throw error;
    }
  }

  /** Operations that can be started before others must complete. */
  get room(): number {
    return this.#entries - this.#operations.size;
  }

  /** Prepares to fill `views` from a file: {@linkcode serve} starts it. At most {@linkcode IOV_MAX} views, and {@linkcode room} for it. */
  readv(fd: number, views: Views, fileOffset: number, done: OnComplete): void {
    this.#vector(OP_READV, fd, views, fileOffset, done);
  }

  /** Prepares to write `views` to a file; limits as for {@linkcode readv}. */
  writev(fd: number, views: Views, fileOffset: number, done: OnComplete): void {
    this.#vector(OP_WRITEV, fd, views, fileOffset, done);
  }

  /** Prepares an fdatasync: it covers what was complete when it was started. */
  fdatasync(fd: number, done: OnComplete): void {
    this.#start({ opcode: OP_FSYNC, fd, addr: 0, count: 0, fileOffset: 0, flags: FSYNC_DATASYNC }, {
      done,
      views: [],
    });
  }

  /** Starts all that was prepared and calls back for all that has completed, until there is neither. */
  serve(): void {
    do {
      this.#submit();
      this.#reap();
    } while (this.#unsubmitted > 0);
  }

  /** Takes back the eventfd's call: {@linkcode serve} sees to what it was for. */
  acknowledge(): void {
    drainEventFd(this.eventFd);
  }

  #reap(): void {
    const { cqHead, cqTail, cqMask, cqes } = this.#offsets;
    const mask = this.#ringView.getUint32(cqMask, true);
    for (;;) {
      const head = this.#ringView.getUint32(cqHead, true);
      // Pairs with the kernel's release of the tail: the entry is read after it.
      if (head === Atomics.load(this.#ringWords, cqTail / 4) >>> 0) return;
      const at = cqes + (head & mask) * CQE_BYTES;
      const id = this.#ringView.getUint32(at, true);
      const result = this.#ringView.getInt32(at + 8, true);
      Atomics.store(this.#ringWords, cqHead / 4, (head + 1) | 0);
      const operation = this.#operations.get(id);
      this.#operations.delete(id);
      operation?.done(result);
    }
  }

  /** Waits until every operation has completed, calling back for each. */
  finish(): void {
    while (this.#operations.size > 0) {
      this.#submit();
      this.#enter(0, 1, ENTER_GETEVENTS);
      this.#reap();
    }
  }

  /** Waits for what is in flight, then gives the rings back. */
  [Symbol.dispose](): void {
    this.finish();
    this.#resources.dispose();
  }

  #vector(opcode: number, fd: number, views: Views, fileOffset: number, done: OnComplete): void {
    if (views.length > IOV_MAX) throw new RangeError(`Cannot transfer ${views.length} buffers at once`);
    const [only] = views;
    if (views.length === 1 && only !== undefined) {
      const whole = { opcode: opcode === OP_READV ? OP_READ : OP_WRITE, count: only.byteLength };
      const addr = this.#iovec.addressOf(only);
      return this.#start({ ...whole, fd, addr, fileOffset, flags: 0 }, { done, views });
    }
    if (this.#iovecsUsed + views.length > IOVEC_ENTRIES) this.#submit();
    const count = this.#iovec.fill(views, this.#iovecsUsed);
    const addr = this.#iovecAddr + this.#iovecsUsed * IOVEC_BYTES;
    this.#start({ opcode, fd, addr, count, fileOffset, flags: 0 }, { done, views });
    this.#iovecsUsed += count;
  }

  #start(entry: Entry, operation: Operation): void {
    if (this.room === 0) throw new RangeError("Too many operations at once");
    while (this.#operations.has(this.#nextId)) this.#nextId = (this.#nextId + 1) >>> 0;
    const id = this.#nextId;
    this.#nextId = (id + 1) >>> 0;
    const { sqTail, sqMask, sqArray } = this.#offsets;
    const tail = this.#ringView.getUint32(sqTail, true);
    // There is room: an operation holds no more than one entry, and the kernel has taken those that it was told of.
    const index = tail & this.#ringView.getUint32(sqMask, true);
    const at = index * SQE_BYTES;
    this.#sqeBytes.fill(0, at, at + SQE_BYTES);
    this.#sqes.setUint8(at, entry.opcode);
    this.#sqes.setInt32(at + 4, entry.fd, true);
    this.#setU64(at + 8, entry.fileOffset);
    this.#setU64(at + 16, entry.addr);
    this.#sqes.setUint32(at + 24, entry.count, true);
    this.#sqes.setUint32(at + 28, entry.flags, true);
    this.#sqes.setUint32(at + 32, id, true);
    this.#ringView.setUint32(sqArray + index * 4, index, true);
    this.#operations.set(id, operation);
    // Publishes the entry: pairs with the kernel's acquire of the tail.
    Atomics.store(this.#ringWords, sqTail / 4, (tail + 1) | 0);
    this.#unsubmitted++;
  }

  #setU64(at: number, value: number): void {
    this.#sqes.setUint32(at, value % 2 ** 32, true);
    this.#sqes.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
  }

  #submit(): void {
    // The kernel stops after an entry that it refuses, and answers it like the others.
    while (this.#unsubmitted > 0) this.#unsubmitted -= this.#enter(this.#unsubmitted, 0, 0);
    this.#iovecsUsed = 0;
  }

  /** Gives the number of entries that the kernel took. */
  #enter(toSubmit: number, minComplete: number, flags: number): number {
    for (;;) {
      const result = libc.syscall(
        SYS_ENTER,
        BigInt(this.#fd),
        BigInt(toSubmit),
        BigInt(minComplete),
        BigInt(flags),
        0n,
        0n,
      );
      if (Number(result) >= 0) return Number(result);
      const errno = lastErrno();
      if (errno === ERRNO.EINTR || errno === ERRNO.EAGAIN) continue;
      // EBUSY: completions wait to be taken before more may be submitted
      if (errno !== ERRNO.EBUSY) throw new SysError("io_uring_enter", errno);
      this.#reap();
    }
  }
}

function addressOf(view: ArrayBufferView<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(view));
}

/** What is written into a `struct io_uring_sqe`. */
interface Entry {
  readonly opcode: number;
  readonly fd: number;
  readonly addr: number;
  readonly count: number;
  readonly fileOffset: number;
  readonly flags: number;
}

/** `struct io_sqring_offsets` at 40 and `struct io_cqring_offsets` at 80 of the parameters. */
function readOffsets(params: DataView): Offsets {
  const at = (offset: number): number => params.getUint32(offset, true);
  return {
    sqTail: at(44),
    sqMask: at(48),
    sqArray: at(64),
    cqHead: at(80),
    cqTail: at(84),
    cqMask: at(88),
    cqes: at(100),
  };
}
