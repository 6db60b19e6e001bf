/**
 * The MP table: CPUs and the wiring of interrupts (Intel MultiProcessor Specification 1.4). Without it (or ACPI) Linux
 * falls back to the 8259's "virtual wire" mode, which hangs on some hosts, and finds one CPU.
 *
 * @module
 */

import type { GuestMemory } from "../memory/guest_memory.ts";
import { IOAPIC_ADDR, IOAPIC_PINS, LOCAL_APIC_ADDR, MP_TABLE_ADDR } from "./layout.ts";

const FLOATING_POINTER_BYTES = 16;
const HEADER_BYTES = 44;
const SPEC_REVISION = 4;
const LOCAL_APIC_VERSION = 0x14;
const IOAPIC_VERSION = 0x11;
const CPU_ENABLED = 1;
const CPU_BOOT = 2;
const INT_TYPE_INT = 0;
const INT_TYPE_NMI = 1;
const INT_TYPE_EXTINT = 3;
const ISA_BUS = 0;
const ALL_CPUS = 0xff;

/** Writes the floating pointer and, behind it, the configuration table. */
export function writeMpTable(memory: GuestMemory, cpus: number): void {
  const entries = mpEntries(cpus);
  const length = HEADER_BYTES + entries.reduce((sum, entry) => sum + entry.byteLength, 0);
  const table = new Uint8Array(FLOATING_POINTER_BYTES + length);
  const view = new DataView(table.buffer);

  ascii(table, 0, "_MP_");
  view.setUint32(4, MP_TABLE_ADDR + FLOATING_POINTER_BYTES, true);
  view.setUint8(8, 1); // length in 16-byte units
  view.setUint8(9, SPEC_REVISION);
  setChecksum(table.subarray(0, FLOATING_POINTER_BYTES), 10);

  const header = FLOATING_POINTER_BYTES;
  ascii(table, header, "PCMP");
  view.setUint16(header + 4, length, true);
  view.setUint8(header + 6, SPEC_REVISION);
  ascii(table, header + 8, "PADDOCK ");
  ascii(table, header + 16, "MICROVM     ");
  view.setUint16(header + 34, entries.length, true);
  view.setUint32(header + 36, LOCAL_APIC_ADDR, true);
  let at = header + HEADER_BYTES;
  for (const entry of entries) {
    table.set(entry, at);
    at += entry.byteLength;
  }
  setChecksum(table.subarray(header), 7);
  memory.copyIn(MP_TABLE_ADDR, table);
}

function mpEntries(cpus: number): Uint8Array[] {
  const ioapicId = cpus;
  const entries: Uint8Array[] = [];
  for (let id = 0; id < cpus; id++) {
    const cpu = new Uint8Array(20);
    cpu.set([0, id, LOCAL_APIC_VERSION, CPU_ENABLED | (id === 0 ? CPU_BOOT : 0)]);
    entries.push(cpu);
  }
  const bus = Uint8Array.of(1, ISA_BUS, 0, 0, 0, 0, 0, 0);
  ascii(bus, 2, "ISA   ");
  const ioapic = Uint8Array.of(2, ioapicId, IOAPIC_VERSION, 1, 0, 0, 0, 0);
  new DataView(ioapic.buffer).setUint32(4, IOAPIC_ADDR, true);
  entries.push(bus, ioapic);
  // Every line goes to the pin of the same number, edge-triggered and active high as the ISA bus has it.
  for (let irq = 0; irq < IOAPIC_PINS; irq++) {
    entries.push(Uint8Array.of(3, INT_TYPE_INT, 0, 0, ISA_BUS, irq, ioapicId, irq));
  }
  entries.push(Uint8Array.of(4, INT_TYPE_EXTINT, 0, 0, ISA_BUS, 0, 0, 0));
  entries.push(Uint8Array.of(4, INT_TYPE_NMI, 0, 0, ISA_BUS, 0, ALL_CPUS, 1));
  return entries;
}

function ascii(bytes: Uint8Array, offset: number, text: string): void {
  new TextEncoder().encodeInto(text, bytes.subarray(offset));
}

/** Makes all bytes sum up to 0 mod 256. */
function setChecksum(bytes: Uint8Array, at: number): void {
  bytes[at] = (256 - bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0)) & 0xff;
}
