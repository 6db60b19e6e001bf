/**
 * Loads an ELF kernel (`vmlinux`): its segments go straight from the file to guest memory (System V ABI, ELF-64).
 *
 * @module
 */

import type { GuestMemory } from "../memory/guest_memory.ts";
import { ConfigError } from "./config.ts";
import type { KernelFile, LoadedKernel } from "./load_kernel.ts";
import { HIGH_MEMORY_ADDR } from "./layout.ts";

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const ET_EXEC = 2;
const ET_DYN = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
/** A kernel has about five. */
const MAX_PROGRAM_HEADERS = 64;

/** Whether the file's first bytes say ELF. */
export function isElf(start: Uint8Array): boolean {
  return start[0] === 0x7f && start[1] === 0x45 && start[2] === 0x4c && start[3] === 0x46;
}

/**
 * Loads the segments of an x86-64 ELF file at their physical addresses.
 *
 * @throws {ConfigError} if the file is no such kernel, or does not fit the guest's memory
 */
export function loadElf(file: KernelFile, memory: GuestMemory): LoadedKernel {
  const header = file.view(0, HEADER_BYTES);
  const is64BitLittleEndian = header.getUint8(4) === 2 && header.getUint8(5) === 1;
  const type = header.getUint16(16, true);
  if (
    !is64BitLittleEndian || header.getUint16(18, true) !== EM_X86_64 || (type !== ET_EXEC && type !== ET_DYN)
  ) {
    throw new ConfigError("kernelPath", `Cannot boot "${file.path}": it is not an x86-64 ELF kernel`);
  }
  const tableOffset = u64(header, 32);
  const count = header.getUint16(56, true);
  if (header.getUint16(54, true) !== PROGRAM_HEADER_BYTES || count === 0 || count > MAX_PROGRAM_HEADERS) {
    throw new ConfigError("kernelPath", `Cannot boot "${file.path}": its program headers are damaged`);
  }
  const table = file.view(tableOffset, count * PROGRAM_HEADER_BYTES);
  const entryAddr = u64(header, 24);
  let endAddr = 0;
  let entryIsLoaded = false;
  for (let at = 0; at < table.byteLength; at += PROGRAM_HEADER_BYTES) {
    if (table.getUint32(at, true) !== PT_LOAD) continue;
    const guestAddr = u64(table, at + 24);
    const fileBytes = u64(table, at + 32);
    const memoryBytes = u64(table, at + 40);
    if (fileBytes > memoryBytes || guestAddr < HIGH_MEMORY_ADDR || !memory.contains(guestAddr, memoryBytes)) {
      throw new ConfigError(
        "kernelPath",
        `Cannot load "${file.path}": a segment of ${memoryBytes} bytes at 0x${
          guestAddr.toString(16)
        } does not fit RAM`,
      );
    }
    // What memoryBytes has more than fileBytes is zero already: the guest's RAM is fresh.
    file.readInto(memory.slice(guestAddr, fileBytes), u64(table, at + 8));
    endAddr = Math.max(endAddr, guestAddr + memoryBytes);
    entryIsLoaded ||= entryAddr >= guestAddr && entryAddr < guestAddr + memoryBytes;
  }
  if (!entryIsLoaded) {
    throw new ConfigError("kernelPath", `Cannot boot "${file.path}": its entry point is not in it`);
  }
  return { entry: "64-bit", entryAddr, endAddr };
}

function u64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}
