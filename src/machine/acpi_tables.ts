/**
 * The ACPI tables (ACPI 6.5 chapter 5), by which a stock kernel finds CPUs, interrupt controllers, devices and the way
 * to switch off. They lie where a PC has its BIOS, and a kernel that does not take the address from the boot
 * parameters finds them by searching there.
 *
 * This is ACPI with its fixed hardware, not the hardware-reduced kind: Linux takes the latter to mean that there is no
 * 8259, and then the ISA interrupts have other numbers, the power module's IRQ 5 among them.
 *
 * @module
 */

import {
  PM1_CONTROL_BYTES,
  PM1_CONTROL_PORT,
  PM1_EVENT_BYTES,
  PM1_EVENT_PORT,
  SCI_IRQ,
} from "../../devices/acpi_power.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import { dsdtAml } from "./acpi_dsdt.ts";
import * as layout from "./layout.ts";

const OEM_ID = "PADDCK";
const OEM_TABLE_ID = "MICROVM ";
const CREATOR_ID = "PDCK";
const HEADER_BYTES = 36;
const RSDP_BYTES = 36;
const FACS_BYTES = 64;
const FADT_BYTES = 276;
const CHECKSUM = 9;
/** "aligned on a 64-byte boundary" is asked of the FACS only; it does no harm to the others */
const ALIGNMENT = 64;

// FADT (§5.2.9)
const FADT_REVISION = 6;
const FADT_MINOR_REVISION = 5;
/** legacy devices there are (COM1, clock); there is no keyboard controller to look for, no VGA, no MSI */
const BOOT_ARCHITECTURE = (1 << 0) | (1 << 2) | (1 << 3);
/** caches can be flushed, C1 is there */
const FLAG_WBINVD = 1 << 0;
const FLAG_PROC_C1 = 1 << 2;
/** no sleep button in the fixed registers, nor a clock that wakes; the power button is there, by its bit being 0 */
const FLAG_NO_SLEEP_BUTTON = 1 << 5;
const FLAG_NO_RTC_WAKE = 1 << 6;
const FLAG_RESET_REGISTER = 1 << 10;
const FLAG_HEADLESS = 1 << 12;
/** latencies above 100 and 1000 µs say that C2 and C3 are not there */
const NO_C2 = 101;
const NO_C3 = 1001;
/** index of the century in the CMOS clock; see `devices/rtc.ts` */
const CENTURY_REGISTER = 0x32;
/** the keyboard controller's reset line */
const RESET_PORT = layout.I8042_PORT + 4;
const RESET_VALUE = 0xfe;

// MADT (§5.2.12)
const MADT_REVISION = 5;
const PC_AT_COMPATIBLE = 1;
const CPU_ENABLED = 1;
const EDGE_ACTIVE_HIGH = 0b0101;
const ALL_CPUS = 0xff;
const NMI_LINT = 1;

/** What the tables describe. */
export interface AcpiMachine {
  readonly cpus: number;
  readonly virtioDevices: number;
}

/**
 * Writes all tables; returns the guest address of the RSDP.
 *
 * @throws {RangeError} if they do not fit below 1 MiB
 */
export function writeAcpiTables(memory: GuestMemory, { cpus, virtioDevices }: AcpiMachine): number {
  let next = layout.ACPI_ADDR;
  const place = (bytes: Uint8Array<ArrayBuffer>): number => {
    const guestAddr = next;
    next = Math.ceil((guestAddr + bytes.byteLength) / ALIGNMENT) * ALIGNMENT;
    if (next > layout.HIGH_MEMORY_ADDR) throw new RangeError("Cannot place the ACPI tables below 1 MiB");
    memory.copyIn(guestAddr, bytes);
    return guestAddr;
  };
  // The RSDP names the XSDT, which comes last: its place is taken first.
  const rsdpAddr = place(new Uint8Array(RSDP_BYTES));
  const facs = place(firmwareControl());
  const dsdt = place(table("DSDT", 2, dsdtAml(virtioDevices)));
  const fadt = place(fixedDescription(dsdt, facs));
  const madt = place(table("APIC", MADT_REVISION, interruptControllers(cpus)));
  const xsdt = place(table("XSDT", 1, addresses([fadt, madt])));
  memory.copyIn(rsdpAddr, rootPointer(xsdt));
  return rsdpAddr;
}

/** A table: its header and `content` (§5.2.6). */
function table(signature: string, revision: number, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEADER_BYTES + content.byteLength);
  const view = new DataView(bytes.buffer);
  ascii(bytes, 0, signature);
  view.setUint32(4, bytes.byteLength, true);
  view.setUint8(8, revision);
  ascii(bytes, 10, OEM_ID);
  ascii(bytes, 16, OEM_TABLE_ID);
  view.setUint32(24, 1, true);
  ascii(bytes, 28, CREATOR_ID);
  view.setUint32(32, 1, true);
  bytes.set(content, HEADER_BYTES);
  setChecksum(bytes, CHECKSUM);
  return bytes;
}

function rootPointer(xsdtAddr: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(RSDP_BYTES);
  const view = new DataView(bytes.buffer);
  ascii(bytes, 0, "RSD PTR ");
  ascii(bytes, 9, OEM_ID);
  view.setUint8(15, 2); // ACPI 2.0 or later
  view.setUint32(20, RSDP_BYTES, true);
  view.setBigUint64(24, BigInt(xsdtAddr), true);
  setChecksum(bytes.subarray(0, 20), 8); // of the part that ACPI 1.0 had
  setChecksum(bytes, 32);
  return bytes;
}

/** Sleep states use it, and we have none that wakes: an empty one, version 2 (§5.2.10). It has no checksum. */
function firmwareControl(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(FACS_BYTES);
  ascii(bytes, 0, "FACS");
  const view = new DataView(bytes.buffer);
  view.setUint32(4, FACS_BYTES, true);
  view.setUint8(32, 2);
  return bytes;
}

function fixedDescription(dsdtAddr: number, facsAddr: number): Uint8Array<ArrayBuffer> {
  const content = new Uint8Array(FADT_BYTES - HEADER_BYTES);
  // Offsets are the table's, as the specification has them.
  const view = new DataView(content.buffer);
  const u8 = (offset: number, value: number): void => view.setUint8(offset - HEADER_BYTES, value);
  const u16 = (offset: number, value: number): void => view.setUint16(offset - HEADER_BYTES, value, true);
  const u32 = (offset: number, value: number): void => view.setUint32(offset - HEADER_BYTES, value, true);
  /** a register: address space 1 is I/O, the access size is 1 for a byte, 2 for a word (§5.2.3.2) */
  const register = (offset: number, port: number, bitWidth: number, accessSize: 1 | 2): void => {
    u8(offset, 1);
    u8(offset + 1, bitWidth);
    u8(offset + 3, accessSize);
    u32(offset + 4, port);
  };
  u32(36, facsAddr);
  u32(40, dsdtAddr);
  u16(46, SCI_IRQ);
  u32(56, PM1_EVENT_PORT);
  u32(64, PM1_CONTROL_PORT);
  u8(88, PM1_EVENT_BYTES);
  u8(89, PM1_CONTROL_BYTES);
  u16(96, NO_C2);
  u16(98, NO_C3);
  u8(108, CENTURY_REGISTER);
  u16(109, BOOT_ARCHITECTURE);
  u32(
    112,
    FLAG_WBINVD | FLAG_PROC_C1 | FLAG_NO_SLEEP_BUTTON | FLAG_NO_RTC_WAKE | FLAG_RESET_REGISTER |
      FLAG_HEADLESS,
  );
  register(116, RESET_PORT, 8, 1);
  u8(128, RESET_VALUE);
  u8(131, FADT_MINOR_REVISION);
  u32(140, dsdtAddr);
  register(148, PM1_EVENT_PORT, 8 * PM1_EVENT_BYTES, 2);
  register(172, PM1_CONTROL_PORT, 8 * PM1_CONTROL_BYTES, 2);
  return table("FACP", FADT_REVISION, content);
}

/** CPUs and wiring: every ISA interrupt goes to the pin of its number, which is what no entry for it says. */
function interruptControllers(cpus: number): Uint8Array {
  const u32 = (value: number): number[] => [...new Uint8Array(Uint32Array.of(value).buffer)];
  const processors = Array.from({ length: cpus }, (_, id) => [0, 8, id, id, ...u32(CPU_ENABLED)]);
  return Uint8Array.from([
    ...u32(layout.LOCAL_APIC_ADDR),
    ...u32(PC_AT_COMPATIBLE),
    ...processors.flat(),
    ...[1, 12, cpus, 0, ...u32(layout.IOAPIC_ADDR), ...u32(0)],
    // The system control interrupt would be level-triggered and active low.
    ...[2, 10, 0, SCI_IRQ, ...u32(SCI_IRQ), EDGE_ACTIVE_HIGH, 0],
    ...[4, 6, ALL_CPUS, 0, 0, NMI_LINT],
  ]);
}

function addresses(guestAddrs: readonly number[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(guestAddrs, BigInt).buffer);
}

function ascii(bytes: Uint8Array, offset: number, text: string): void {
  new TextEncoder().encodeInto(text, bytes.subarray(offset));
}

/** Makes all bytes sum up to 0 mod 256. */
function setChecksum(bytes: Uint8Array, at: number): void {
  bytes[at] = (256 - bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0)) & 0xff;
}
