/**
 * The guest's physical address space and interrupt lines: who is where, and why there.
 *
 * @module
 */

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

// --- The first MiB. Real-mode interrupt vectors and BIOS data (0 to 0x500) stay empty.

/** Global descriptor table of the boot CPU: flat segments, as the boot protocol wants them. */
export const GDT_ADDR = 0x500;
/** `struct boot_params` ("zero page"), which RSI points to at entry. */
export const BOOT_PARAMS_ADDR = 0x7000;
/** A page of stack below here, for kernels that push before they set up their own. */
export const BOOT_STACK_TOP = 0x8ff0;
/** Page tables that map the first 4 GiB onto themselves: PML4, PDPT, four page directories of 2 MiB pages. */
export const PML4_ADDR = 0x9000;
export const PDPT_ADDR = 0xa000;
export const PAGE_DIRECTORIES_ADDR = 0xb000;
/** Kernel command line, with room for the longest that x86 takes. */
export const CMDLINE_ADDR = 0x2_0000;
export const MAX_CMDLINE_BYTES = 2048;
/** The last KiB of conventional memory: one of the three places where Linux looks for the MP table. */
export const MP_TABLE_ADDR = 0x9_fc00;
/** End of conventional memory; from here to 1 MiB a PC has video memory and ROMs. */
export const CONVENTIONAL_END = MP_TABLE_ADDR;
/** ACPI tables, where a PC's BIOS is and a kernel searches for them. */
export const ACPI_ADDR = 0xe_0000;
/** RAM goes on here. Kernels are loaded at or above it. */
export const HIGH_MEMORY_ADDR = 1 * MIB;

// --- The hole below 4 GiB: RAM that does not fit under it continues at 4 GiB.

/** RAM ends here at the latest. */
export const HOLE_ADDR = 3 * GIB;
/** RAM beyond the hole. */
export const ABOVE_HOLE_ADDR = 4 * GIB;
/** virtio-mmio devices, a page each. */
export const VIRTIO_MMIO_ADDR = 0xd000_0000;
export const VIRTIO_MMIO_BYTES = 4 * KIB;
/** The architecture's addresses of the interrupt controllers. */
export const IOAPIC_ADDR = 0xfec0_0000;
export const LOCAL_APIC_ADDR = 0xfee0_0000;
/** Four pages that KVM on Intel uses for itself, below the reset vector's page where nothing else is. */
export const IDENTITY_MAP_ADDR = 0xfffb_c000;
export const TSS_ADDR = 0xfffb_d000;

// --- Ports

export const SERIAL_PORT = 0x3f8;
export const RTC_PORT = 0x70;
export const I8042_PORT = 0x60;

// --- Interrupt lines: the IOAPIC has 24 pins, 0 to 15 of them with a PC's meaning

export const SERIAL_IRQ = 4;
export const RTC_IRQ = 8;
/** Pins that no PC device uses, for virtio: one a device. */
export const FIRST_VIRTIO_IRQ = 16;
export const IOAPIC_PINS = 24;
export const MAX_VIRTIO_DEVICES = IOAPIC_PINS - FIRST_VIRTIO_IRQ;
/** The MP table lists a CPU in 20 bytes and has 1 KiB; see `mp_table.ts`. */
export const MAX_CPUS = 32;

/** The registers and the interrupt of virtio device `index`. */
export function virtioSlot(index: number): { readonly guestAddr: number; readonly irq: number } {
  return { guestAddr: VIRTIO_MMIO_ADDR + index * VIRTIO_MMIO_BYTES, irq: FIRST_VIRTIO_IRQ + index };
}

/** Where RAM of `sizeBytes` lies: one range, or two with the hole between. */
export function ramRegions(
  sizeBytes: number,
): { readonly guestAddr: number; readonly sizeBytes: number; readonly bufferOffset: number }[] {
  const low = { guestAddr: 0, sizeBytes: Math.min(sizeBytes, HOLE_ADDR), bufferOffset: 0 };
  if (sizeBytes <= HOLE_ADDR) return [low];
  return [low, { guestAddr: ABOVE_HOLE_ADDR, sizeBytes: sizeBytes - HOLE_ADDR, bufferOffset: HOLE_ADDR }];
}
