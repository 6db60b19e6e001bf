/**
 * Kernel and initrd: from files into guest memory, without a copy in JavaScript.
 *
 * @module
 */

import { SysError } from "../ffi/errno.ts";
import { close, O, open, pread, sizeOf } from "../ffi/sys.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import { isBzImage, loadBzImage } from "./bzimage.ts";
import { ConfigError } from "./config.ts";
import { isElf, loadElf } from "./elf.ts";

/** A kernel in guest memory. */
export interface LoadedKernel {
  readonly entry: "64-bit" | "32-bit";
  readonly entryAddr: number;
  /** first address after everything that the kernel needs before it manages memory itself */
  readonly endAddr: number;
  /** highest address that the initrd may have (default: below 2 GiB) */
  readonly initrdMaxAddr?: number;
  /** setup header of a bzImage, as it stands in the file from 0x1f1 */
  readonly setupHeader?: Uint8Array;
}

/** An open kernel or initrd file. */
export class KernelFile implements Disposable {
  readonly path: string;
  readonly sizeBytes: number;
  readonly #fd: number;
  readonly #field: string;

  /** @throws {ConfigError} for `field` if the file cannot be opened */
  constructor(path: string, field: string) {
    this.path = path;
    this.#field = field;
    try {
      this.#fd = open(path, O.RDONLY);
    } catch (cause) {
      if (!(cause instanceof SysError)) throw cause;
      throw new ConfigError(field, `Cannot open "${path}": ${cause.code}`, { cause });
    }
    this.sizeBytes = sizeOf(this.#fd);
  }

  /** A view of a copy of part of the file. */
  view(fileOffset: number, sizeBytes: number): DataView<ArrayBuffer> {
    if (fileOffset + sizeBytes > this.sizeBytes) this.#failShort();
    const bytes = new Uint8Array(sizeBytes);
    this.readInto(bytes, fileOffset);
    return new DataView(bytes.buffer);
  }

  /** Fills `target`, which may be guest memory. */
  readInto(target: Uint8Array<ArrayBuffer>, fileOffset: number): void {
    // The offset is what the file says: beyond 2^63 the system call would not even take it.
    if (fileOffset + target.byteLength > this.sizeBytes) this.#failShort();
    for (let done = 0; done < target.byteLength;) {
      const count = pread(this.#fd, target.subarray(done), fileOffset + done);
      if (count === 0) this.#failShort();
      done += count;
    }
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }

  #failShort(): never {
    throw new ConfigError(this.#field, `Cannot read "${this.path}": it ends too early`);
  }
}

/**
 * Loads a `vmlinux` or a `bzImage`.
 *
 * @throws {ConfigError} if it is neither, or does not fit
 */
export function loadKernel(path: string, memory: GuestMemory): LoadedKernel {
  using file = new KernelFile(path, "kernelPath");
  if (file.sizeBytes >= 64 && isElf(new Uint8Array(file.view(0, 4).buffer))) return loadElf(file, memory);
  if (isBzImage(file)) return loadBzImage(file, memory);
  throw new ConfigError("kernelPath", `Cannot boot "${path}": it is neither an ELF kernel nor a bzImage`);
}

const PAGE_BYTES = 4096;
const DEFAULT_INITRD_MAX_ADDR = 0x7fff_ffff;

/**
 * Loads an initrd as high as the kernel allows.
 *
 * @throws {ConfigError} if it does not fit between the kernel and the end of RAM
 */
export function loadInitrd(
  path: string,
  memory: GuestMemory,
  kernel: LoadedKernel,
): { guestAddr: number; sizeBytes: number } {
  using file = new KernelFile(path, "initrdPath");
  const lowRamEnd = memory.regions[0]?.sizeBytes ?? 0;
  const end = Math.min(lowRamEnd, (kernel.initrdMaxAddr ?? DEFAULT_INITRD_MAX_ADDR) + 1);
  const guestAddr = Math.floor((end - file.sizeBytes) / PAGE_BYTES) * PAGE_BYTES;
  if (guestAddr < kernel.endAddr) {
    throw new ConfigError(
      "initrdPath",
      `Cannot load "${path}": ${file.sizeBytes} bytes do not fit beside the kernel`,
    );
  }
  file.readInto(memory.slice(guestAddr, file.sizeBytes), 0);
  return { guestAddr, sizeBytes: file.sizeBytes };
}
