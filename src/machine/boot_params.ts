/**
 * The zero page: what a boot loader tells Linux (Documentation/arch/x86/boot.rst and zero-page.rst).
 *
 * @module
 */

import type { GuestMemory } from "../memory/guest_memory.ts";
import * as layout from "./layout.ts";
import type { LoadedKernel } from "./load_kernel.ts";

// Offsets in struct boot_params
const ACPI_RSDP_ADDR = 0x070;
const E820_ENTRIES = 0x1e8;
const SETUP_HEADER = 0x1f1;
const VID_MODE = 0x1fa;
const BOOT_FLAG = 0x1fe;
const HEADER_MAGIC = 0x202;
const TYPE_OF_LOADER = 0x210;
const RAMDISK_IMAGE = 0x218;
const RAMDISK_SIZE = 0x21c;
const CMD_LINE_PTR = 0x228;
const KERNEL_ALIGNMENT = 0x230;
const CMDLINE_SIZE = 0x238;
const E820_TABLE = 0x2d0;
const E820_ENTRY_BYTES = 20;
const E820_RAM = 1;
const E820_RESERVED = 2;

const HDRS = 0x53726448;
/** "no assigned loader id" */
const LOADER_UNDEFINED = 0xff;
const VGA_NORMAL = 0xffff;

/**
 * Whether a kernel is shown ACPI tables, or is told of its devices on its command line. An `acpi=` word on the command
 * line decides. Without one it is ACPI for a bzImage, which is what distributions build; an ELF kernel is one that
 * somebody built for virtual machines, often without PCI, and Linux' interpreter refuses all tables where there is no
 * PCI. Both at once is no way out: a kernel with both complains of each device that it is told of twice.
 */
export function usesAcpi(cmdline: string, kernel: Pick<LoadedKernel, "setupHeader">): boolean {
  const words = [...splitInitWords(cmdline).parameters.matchAll(/(?<=^| )acpi=(\S*)/g)];
  const word = words.at(-1)?.[1];
  return word === undefined ? kernel.setupHeader !== undefined : word !== "off";
}

/** Adds the words that name the devices (`virtio_mmio.device=`) to a command line. */
export function nameDevices(cmdline: string, devices: string): string {
  const { parameters, rest } = splitInitWords(cmdline);
  return `${parameters} ${devices}${rest}`.trim();
}

/** Parameters end at `--`: what follows is for the init program. */
function splitInitWords(cmdline: string): { readonly parameters: string; readonly rest: string } {
  const [parameters = "", ...rest] = cmdline.split(/(?= -- )/);
  return { parameters, rest: rest.join("") };
}

/** Writes command line and zero page. The command line was checked to fit. */
export function writeBootParams(
  memory: GuestMemory,
  options: {
    kernel: LoadedKernel;
    cmdline: string;
    initrd: { guestAddr: number; sizeBytes: number } | undefined;
    /** where the ACPI tables start (0: there are none) */
    rsdpAddr: number;
  },
): void {
  const { kernel, cmdline, initrd, rsdpAddr } = options;
  const text = new TextEncoder().encode(cmdline);
  memory.copyIn(layout.CMDLINE_ADDR, text);
  memory.writeU8(layout.CMDLINE_ADDR + text.byteLength, 0);

  const page = layout.BOOT_PARAMS_ADDR;
  if (kernel.setupHeader !== undefined) memory.copyIn(page + SETUP_HEADER, kernel.setupHeader);
  else {
    memory.writeU16(page + BOOT_FLAG, 0xaa55);
    memory.writeU32(page + HEADER_MAGIC, HDRS);
    memory.writeU32(page + KERNEL_ALIGNMENT, 16 * layout.MIB);
    memory.writeU32(page + CMDLINE_SIZE, layout.MAX_CMDLINE_BYTES - 1);
  }
  memory.writeU64(page + ACPI_RSDP_ADDR, BigInt(rsdpAddr));
  memory.writeU16(page + VID_MODE, VGA_NORMAL);
  memory.writeU8(page + TYPE_OF_LOADER, LOADER_UNDEFINED);
  memory.writeU32(page + CMD_LINE_PTR, layout.CMDLINE_ADDR);
  memory.writeU32(page + RAMDISK_IMAGE, initrd?.guestAddr ?? 0);
  memory.writeU32(page + RAMDISK_SIZE, initrd?.sizeBytes ?? 0);

  const ranges = e820(memory);
  memory.writeU8(page + E820_ENTRIES, ranges.length);
  ranges.forEach(({ start, end, type }, index) => {
    const entry = page + E820_TABLE + index * E820_ENTRY_BYTES;
    memory.writeU64(entry, BigInt(start));
    memory.writeU64(entry + 8, BigInt(end - start));
    memory.writeU32(entry + 16, type);
  });
}

function e820(memory: GuestMemory): { start: number; end: number; type: number }[] {
  const [low, ...high] = memory.regions;
  return [
    { start: 0, end: layout.CONVENTIONAL_END, type: E820_RAM },
    { start: layout.CONVENTIONAL_END, end: layout.HIGH_MEMORY_ADDR, type: E820_RESERVED },
    { start: layout.HIGH_MEMORY_ADDR, end: low?.sizeBytes ?? 0, type: E820_RAM },
    ...high.map(({ guestAddr, sizeBytes }) => ({
      start: guestAddr,
      end: guestAddr + sizeBytes,
      type: E820_RAM,
    })),
  ];
}
