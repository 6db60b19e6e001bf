/**
 * Loads a compressed kernel (`bzImage`), which unpacks itself (Documentation/arch/x86/boot.rst).
 *
 * @module
 */

import type { GuestMemory } from "../memory/guest_memory.ts";
import { ConfigError } from "./config.ts";
import { HIGH_MEMORY_ADDR } from "./layout.ts";
import type { KernelFile, LoadedKernel } from "./load_kernel.ts";

// Offsets of the setup header in the file, which are also those in the zero page
const SETUP_SECTS = 0x1f1;
const HEADER_START = 0x1f1;
const BOOT_FLAG = 0x1fe;
const JUMP_LENGTH = 0x201;
const HEADER_MAGIC = 0x202;
const VERSION = 0x206;
const LOADFLAGS = 0x211;
const INITRD_ADDR_MAX = 0x22c;
const XLOADFLAGS = 0x236;
const INIT_SIZE = 0x260;
const HEADER_BYTES = 0x280;

const HDRS = 0x53726448;
const SECTOR_BYTES = 512;
/** 2.10: init_size is there */
const MIN_VERSION = 0x20a;
/** 2.12: xloadflags is there */
const XLOADFLAGS_VERSION = 0x20c;
const LOADED_HIGH = 1;
const XLF_KERNEL_64 = 1;
/** where a 64-bit kernel is entered, from the start of its protected-mode code */
const ENTRY_64_OFFSET = 0x200;

/** Whether the file has a setup header. */
export function isBzImage(file: KernelFile): boolean {
  if (file.sizeBytes < HEADER_BYTES) return false;
  const header = file.view(0, HEADER_BYTES);
  return header.getUint16(BOOT_FLAG, true) === 0xaa55 && header.getUint32(HEADER_MAGIC, true) === HDRS;
}

/**
 * Loads the protected-mode part at 1 MiB.
 *
 * @throws {ConfigError} if the kernel is too old or does not fit the guest's memory
 */
export function loadBzImage(file: KernelFile, memory: GuestMemory): LoadedKernel {
  const header = file.view(0, HEADER_BYTES);
  const version = header.getUint16(VERSION, true);
  if (version < MIN_VERSION || (header.getUint8(LOADFLAGS) & LOADED_HIGH) === 0) {
    throw new ConfigError("kernelPath", `Cannot boot "${file.path}": its boot protocol is older than 2.10`);
  }
  // §1.1: 0 means 4, for history's sake
  const setupBytes = ((header.getUint8(SETUP_SECTS) || 4) + 1) * SECTOR_BYTES;
  const kernelBytes = file.sizeBytes - setupBytes;
  const initBytes = header.getUint32(INIT_SIZE, true);
  const neededBytes = Math.max(kernelBytes, initBytes);
  if (kernelBytes <= 0 || !memory.contains(HIGH_MEMORY_ADDR, neededBytes)) {
    throw new ConfigError("kernelPath", `Cannot load "${file.path}": ${neededBytes} bytes do not fit RAM`);
  }
  file.readInto(memory.slice(HIGH_MEMORY_ADDR, kernelBytes), setupBytes);
  const has64 = version >= XLOADFLAGS_VERSION && (header.getUint16(XLOADFLAGS, true) & XLF_KERNEL_64) !== 0;
  const headerBytes = HEADER_MAGIC + header.getUint8(JUMP_LENGTH) - HEADER_START;
  return {
    entry: has64 ? "64-bit" : "32-bit",
    entryAddr: HIGH_MEMORY_ADDR + (has64 ? ENTRY_64_OFFSET : 0),
    endAddr: HIGH_MEMORY_ADDR + neededBytes,
    initrdMaxAddr: header.getUint32(INITRD_ADDR_MAX, true),
    setupHeader: new Uint8Array(header.buffer.slice(HEADER_START, HEADER_START + headerBytes)),
  };
}
