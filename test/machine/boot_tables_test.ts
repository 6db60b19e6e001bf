import { deepEqual, equal } from "node:assert/strict";
import { nameDevices, usesAcpi, writeBootParams } from "../../src/machine/boot_params.ts";
import { checkConfig, ConfigError, parseMac } from "../../src/machine/config.ts";
import * as layout from "../../src/machine/layout.ts";
import { writeMpTable } from "../../src/machine/mp_table.ts";
import { cpuidForVcpu } from "../../src/kvm/cpuid.ts";
import { GuestMemory } from "../../src/memory/guest_memory.ts";
import { throws } from "node:assert/strict";

const kernel = { entry: "64-bit", entryAddr: 0x100_0000, endAddr: 0x200_0000 } as const;

/** Guest memory of `sizeBytes` of which only the first 2 MiB are there. */
function lowMemory(): GuestMemory {
  return new GuestMemory(new ArrayBuffer(2 * layout.MIB));
}

Deno.test("ramRegions() leaves a hole below 4 GiB", () => {
  deepEqual(layout.ramRegions(512 * layout.MIB).length, 1);
  deepEqual(layout.ramRegions(8 * layout.GIB), [
    { guestAddr: 0, sizeBytes: 3 * layout.GIB, bufferOffset: 0 },
    { guestAddr: 4 * layout.GIB, sizeBytes: 5 * layout.GIB, bufferOffset: 3 * layout.GIB },
  ]);
});

Deno.test("the layout's places do not overlap", () => {
  const places: [number, number][] = [
    [layout.GDT_ADDR, 0x28],
    [layout.BOOT_PARAMS_ADDR, 4096],
    [layout.PML4_ADDR, 4096],
    [layout.PDPT_ADDR, 4096],
    [layout.PAGE_DIRECTORIES_ADDR, 4 * 4096],
    [layout.CMDLINE_ADDR, layout.MAX_CMDLINE_BYTES],
    [layout.MP_TABLE_ADDR, 1024],
    [layout.ACPI_ADDR, layout.HIGH_MEMORY_ADDR - layout.ACPI_ADDR],
    [layout.VIRTIO_MMIO_ADDR, layout.MAX_VIRTIO_DEVICES * layout.VIRTIO_MMIO_BYTES],
    [layout.IOAPIC_ADDR, 4096],
    [layout.LOCAL_APIC_ADDR, 4096],
    [layout.IDENTITY_MAP_ADDR, 4096],
    [layout.TSS_ADDR, 3 * 4096],
  ];
  places.sort(([a], [b]) => a - b);
  places.forEach(([start], index) => {
    const [before, size] = places[index - 1] ?? [0, 0];
    equal(before + size <= start, true, `0x${start.toString(16)}`);
  });
});

Deno.test("writeBootParams() tells the kernel its command line, initrd and RAM", () => {
  const memory = lowMemory();
  const initrd = { guestAddr: 0x1f_0000, sizeBytes: 77 };
  writeBootParams(memory, { kernel, cmdline: "quiet", initrd, rsdpAddr: layout.ACPI_ADDR });
  const page = layout.BOOT_PARAMS_ADDR;
  equal(memory.readU64(page + 0x70), layout.ACPI_ADDR);
  equal(memory.readU32(page + 0x228), layout.CMDLINE_ADDR);
  equal(new TextDecoder().decode(memory.copyOut(layout.CMDLINE_ADDR, 6)), "quiet\0");
  equal(memory.readU32(page + 0x218), 0x1f_0000);
  equal(memory.readU32(page + 0x21c), 77);
  equal(memory.readU8(page + 0x1e8), 3);
  equal(memory.readU64(page + 0x2d0 + 40), layout.HIGH_MEMORY_ADDR);
  equal(memory.readU64(page + 0x2d0 + 48), layout.MIB);
});

Deno.test("nameDevices() names them before the words for init", () => {
  const devices = "virtio_mmio.device=4K@0xd0000000:16";
  equal(nameDevices("quiet -- one two", devices), `quiet ${devices} -- one two`);
  equal(nameDevices("", devices), devices);
});

Deno.test("usesAcpi() goes by the last word about it, else by the kind of kernel", () => {
  const elf = {};
  const bzImage = { setupHeader: new Uint8Array() };
  deepEqual([usesAcpi("quiet", elf), usesAcpi("quiet", bzImage)], [false, true]);
  deepEqual([usesAcpi("acpi=off quiet", bzImage), usesAcpi("acpi=off acpi=on", elf)], [false, true]);
  deepEqual([usesAcpi("acpi=strict", elf), usesAcpi("acpi=on acpi=off", bzImage)], [true, false]);
  // What is for init, and words that only look like it, say nothing.
  deepEqual([usesAcpi("quiet -- acpi=off", bzImage), usesAcpi("xacpi=on acpi", elf)], [true, false]);
});

Deno.test("writeMpTable() writes checksums that hold, and as many CPUs as there are", () => {
  for (const cpus of [1, 2, 16, layout.MAX_CPUS]) {
    const memory = lowMemory();
    writeMpTable(memory, cpus);
    const sum = (addr: number, size: number): number =>
      memory.copyOut(addr, size).reduce((total, byte) => (total + byte) & 0xff, 0);
    const table = memory.readU32(layout.MP_TABLE_ADDR + 4);
    const length = memory.readU16(table + 4);
    equal(sum(layout.MP_TABLE_ADDR, 16), 0);
    equal(sum(table, length), 0);
    equal(table + length <= layout.HIGH_MEMORY_ADDR, true);
    equal(length + 16 <= 1024 * 2, true);
    equal(memory.readU8(table + 44), 0);
    equal(memory.readU16(table + 34), cpus + 1 + 1 + layout.IOAPIC_PINS + 2);
  }
});

Deno.test("cpuidForVcpu() shows a hypervisor and one socket of as many cores as there are vCPUs", () => {
  const empty = { index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 };
  const supported = [{ ...empty, function: 1 }, { ...empty, function: 0xb }, {
    ...empty,
    function: 0x8000_0008,
  }];
  const entries = cpuidForVcpu(supported, { apicId: 2, cpus: 4, tscDeadline: true });
  const leaf1 = entries.find((entry) => entry.function === 1);
  equal((leaf1?.ebx ?? 0) >>> 24, 2);
  equal(((leaf1?.ebx ?? 0) >>> 16) & 0xff, 4);
  equal((leaf1?.ecx ?? 0) >>> 31, 1);
  const levels = entries.filter((entry) => entry.function === 0xb);
  deepEqual(levels.map(({ eax, ebx, edx }) => [eax, ebx, edx]), [[0, 1, 2], [2, 4, 2], [0, 0, 2]]);
  equal(entries.find((entry) => entry.function === 0x8000_0008)?.ecx, (2 << 12) | 3);
});

Deno.test("checkConfig() names the field that cannot be", () => {
  const good = { kernelPath: "/k", cmdline: "", memoryMib: 512, cpus: 1, disks: [] };
  checkConfig(good);
  const wrong: [string, object][] = [
    ["memoryMib", { memoryMib: 0 }],
    ["memoryMib", { memoryMib: 1.5 }],
    ["cpus", { cpus: 0 }],
    ["cmdline", { cmdline: "caf\u00e9" }],
    ["disks", { disks: Array.from({ length: 8 }, () => ({ path: "/d", format: "raw" })) }],
    ["net.tap", { net: { tap: "a name that is too long" } }],
    ["graceMs", { graceMs: -1 }],
    ["vsock.cid", { vsock: { cid: 2, socketPath: "/s" } }],
  ];
  for (const [field, change] of wrong) {
    throws(() => checkConfig({ ...good, ...change }), (error: ConfigError) => error.field === field, field);
  }
});

Deno.test("parseMac() reads six bytes and nothing else", () => {
  deepEqual([...parseMac("06:00:AC:1e:00:02")], [6, 0, 0xac, 0x1e, 0, 2]);
  for (const text of ["", "06:00", "06:00:ac:1e:00:02:03", "zz:00:ac:1e:00:02"]) {
    throws(() => parseMac(text), ConfigError);
  }
});
