import { deepEqual, equal, ok } from "node:assert/strict";
import { join } from "node:path";
import * as aml from "../../src/machine/acpi_aml.ts";
import { dsdtAml } from "../../src/machine/acpi_dsdt.ts";
import { writeAcpiTables } from "../../src/machine/acpi_tables.ts";
import * as layout from "../../src/machine/layout.ts";
import { GuestMemory } from "../../src/memory/guest_memory.ts";
import { hasTool, run } from "../support/command.ts";

const HEADER_BYTES = 36;

/** The tables of a machine as a kernel finds them: by their addresses, from the RSDP. */
function tablesOf(cpus: number, virtioDevices: number): {
  readonly memory: GuestMemory;
  readonly rsdp: number;
  readonly facs: number;
  readonly tables: ReadonlyMap<string, number>;
} {
  const memory = new GuestMemory(new ArrayBuffer(2 * layout.MIB));
  const rsdp = writeAcpiTables(memory, { cpus, virtioDevices });
  const xsdt = memory.readU64(rsdp + 24);
  const entries = Array.from(
    { length: (memory.readU32(xsdt + 4) - HEADER_BYTES) / 8 },
    (_, index) => memory.readU64(xsdt + HEADER_BYTES + 8 * index),
  );
  const fadt = entries[0] ?? 0;
  const found = [xsdt, ...entries, memory.readU64(fadt + 140)];
  const tables = new Map(found.map((addr) => [textAt(memory, addr, 4), addr]));
  return { memory, rsdp, facs: memory.readU32(fadt + 36), tables };
}

function textAt(memory: GuestMemory, addr: number, length: number): string {
  return new TextDecoder().decode(memory.copyOut(addr, length));
}

function sum(memory: GuestMemory, addr: number, length: number): number {
  return memory.copyOut(addr, length).reduce((total, byte) => (total + byte) & 0xff, 0);
}

Deno.test("writeAcpiTables() writes tables that name each other, with checksums that hold", () => {
  for (const [cpus, devices] of [[1, 1], [16, 4], [layout.MAX_CPUS, layout.MAX_VIRTIO_DEVICES]] as const) {
    const { memory, rsdp, facs, tables } = tablesOf(cpus, devices);
    equal(textAt(memory, rsdp, 8), "RSD PTR ");
    equal(sum(memory, rsdp, 20), 0);
    equal(sum(memory, rsdp, 36), 0);
    deepEqual([...tables.keys()], ["XSDT", "FACP", "APIC", "DSDT"]);
    for (const [name, addr] of tables) {
      equal(sum(memory, addr, memory.readU32(addr + 4)), 0, name);
      ok(addr >= layout.ACPI_ADDR && addr + memory.readU32(addr + 4) <= layout.HIGH_MEMORY_ADDR, name);
    }
    equal(textAt(memory, facs, 4), "FACS");
    equal(facs % 64, 0);
    // The search for the RSDP goes in steps of 16 bytes.
    equal(rsdp % 16, 0);
  }
});

Deno.test("writeAcpiTables() lists every CPU and the interrupt controller in the MADT", () => {
  const { memory, tables } = tablesOf(3, 1);
  const madt = tables.get("APIC") ?? 0;
  const entries: number[][] = [];
  for (let at = madt + HEADER_BYTES + 8; at < madt + memory.readU32(madt + 4); at += memory.readU8(at + 1)) {
    entries.push([...memory.copyOut(at, memory.readU8(at + 1))]);
  }
  equal(memory.readU32(madt + HEADER_BYTES), layout.LOCAL_APIC_ADDR);
  deepEqual(entries, [
    [0, 8, 0, 0, 1, 0, 0, 0],
    [0, 8, 1, 1, 1, 0, 0, 0],
    [0, 8, 2, 2, 1, 0, 0, 0],
    [1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
    [2, 10, 0, 9, 9, 0, 0, 0, 0b0101, 0],
    [4, 6, 0xff, 0, 0, 1],
  ]);
});

Deno.test("an AML term's length counts its own bytes, however many they are", () => {
  // A scope's content is its name of 4 bytes, and what comes next.
  const scopeOf = (contentBytes: number): readonly number[] =>
    aml.scope("ABCD", Array<number>(contentBytes - 4).fill(0)).slice(1);
  deepEqual(scopeOf(62).slice(0, 1), [63]);
  deepEqual(scopeOf(63).slice(0, 2), [0x40 | (65 & 0xf), 65 >> 4]);
  deepEqual(scopeOf(4093).slice(0, 2), [0x40 | (4095 & 0xf), 4095 >> 4]);
  deepEqual(scopeOf(4094).slice(0, 3), [0x80 | (4097 & 0xf), (4097 >> 4) & 0xff, 4097 >> 12]);
});

Deno.test("eisaId() packs an id as the specification's example has it", () => {
  // ACPI 6.5 §19.3.4: PNP0C09 is 0x090CD041
  deepEqual(aml.eisaId("PNP0C09"), [0x0c, 0x41, 0xd0, 0x0c, 0x09]);
});

const noIasl = !hasTool("iasl");

Deno.test({
  name: noIasl
    ? "the reference compiler's bytes for our devices (skipped: no iasl)"
    : "the reference compiler makes the same bytes of what the DSDT is meant to say",
  ignore: noIasl,
  async fn(): Promise<void> {
    const virtio = [[0, "0xd0000000", 16], [1, "0xd0001000", 17]].map(([index, addr, irq]) => `
      Device (VR0${index}) {
        Name (_HID, "LNRO0005")
        Name (_UID, ${index})
        Name (_CRS, ResourceTemplate () {
          Memory32Fixed (ReadWrite, ${addr}, 0x1000)
          Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { ${irq} }
        })
      }`);
    const source = `DefinitionBlock ("", "DSDT", 2, "PADDCK", "MICROVM ", 1) {
      Scope (\\_SB) {
        Device (COM1) {
          Name (_HID, EisaId ("PNP0501"))
          Name (_UID, 1)
          Name (_CRS, ResourceTemplate () { IO (Decode16, 0x3f8, 0x3f8, 0, 8) IRQNoFlags () { 4 } })
        }
        Device (RTC) {
          Name (_HID, EisaId ("PNP0B00"))
          Name (_CRS, ResourceTemplate () { IO (Decode16, 0x70, 0x70, 0, 2) IRQNoFlags () { 8 } })
        }
        ${virtio.join("")}
      }
      Name (\\_S5, Package () { 5, 0, 0, 0 })
    }`;
    const folder = await Deno.makeTempDir({ prefix: "paddock-acpi-" });
    try {
      await Deno.writeTextFile(join(folder, "dsdt.asl"), source);
      run("iasl", ["-vs", "-p", join(folder, "dsdt"), join(folder, "dsdt.asl")]);
      const compiled = (await Deno.readFile(join(folder, "dsdt.aml"))).subarray(HEADER_BYTES);
      equal(dsdtAml(2).toHex(), new Uint8Array(compiled).toHex());
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
