/**
 * Memory mappings: guest RAM and the `kvm_run` pages.
 *
 * @module
 */

import { ERRNO, SysError } from "./errno.ts";
import { libc } from "./libc.ts";
import { check, close, cString, ftruncate, lastErrno, MADV, madvise } from "./sys.ts";

// asm-generic/mman-common.h and linux/mman.h
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MFD_CLOEXEC = 1;

/** A mapping that this object owns: unmapped by `dispose`, after which no view may be used. */
export class Mapping implements Disposable {
  readonly sizeBytes: number;
  /** address in this process: what crosses to Workers */
  readonly hostAddr: bigint;
  readonly buffer: ArrayBuffer;
  #pointer: Deno.PointerObject | null;

  private constructor(pointer: Deno.PointerObject, sizeBytes: number) {
    this.#pointer = pointer;
    this.sizeBytes = sizeBytes;
    this.hostAddr = Deno.UnsafePointer.value(pointer);
    // SAFETY: mmap gave sizeBytes bytes; whoever holds the buffer is stopped before dispose() unmaps them.
    this.buffer = Deno.UnsafePointerView.getArrayBuffer(pointer, sizeBytes);
  }

  /** Maps `sizeBytes` of a file descriptor from `fileOffset`, shared, for reading and writing. */
  static ofFd(fd: number, sizeBytes: number, flags = MAP_SHARED, fileOffset = 0): Mapping {
    const pointer = libc.mmap(null, BigInt(sizeBytes), PROT_READ | PROT_WRITE, flags, fd, BigInt(fileOffset));
    const errno = lastErrno();
    if (pointer === null || Deno.UnsafePointer.value(pointer) === 2n ** 64n - 1n) {
      throw new SysError(`mmap of ${sizeBytes} bytes`, errno);
    }
    return new Mapping(pointer, sizeBytes);
  }

  /** New zeroed memory, backed page by page when it is first touched. */
  static anonymous(name: string, sizeBytes: number): Mapping {
    const fd = check(libc.memfd_create(cString(name), MFD_CLOEXEC), "memfd_create");
    try {
      ftruncate(fd, sizeBytes);
      return Mapping.ofFd(fd, sizeBytes, MAP_SHARED | MAP_NORESERVE);
    } finally {
      close(fd);
    }
  }

  /** Like {@linkcode anonymous}, in pages of 2 MiB where the host's transparent huge pages allow it. */
  static hugePages(sizeBytes: number): Mapping {
    const mapping = Mapping.ofFd(-1, sizeBytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    try {
      madvise(mapping.hostAddr, sizeBytes, MADV.HUGEPAGE);
    } catch (error) {
      // EINVAL: a kernel without huge pages; small ones do as well
      if (!(error instanceof SysError) || error.errno !== ERRNO.EINVAL) throw error;
    }
    return mapping;
  }

  [Symbol.dispose](): void {
    if (this.#pointer === null) return;
    // SAFETY: the owner disposes once all Workers that view these bytes have stopped.
    libc.munmap(this.#pointer, BigInt(this.sizeBytes));
    this.#pointer = null;
  }
}

/** Views memory that another thread of this process mapped and keeps mapped for as long as the view is used. */
export function viewMapping(hostAddr: bigint, sizeBytes: number): ArrayBuffer {
  const pointer = Deno.UnsafePointer.create(hostAddr);
  if (pointer === null) throw new RangeError("Cannot view memory at address 0");
  // SAFETY: the creating thread unmaps only after every Worker has reported that it stopped.
  return Deno.UnsafePointerView.getArrayBuffer(pointer, sizeBytes);
}
