/**
 * The state in which a CPU enters the kernel (Documentation/arch/x86/boot.rst, "64-bit" and "32-bit boot protocol").
 *
 * @module
 */

import type { Vcpu } from "../kvm/vcpu.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import * as layout from "./layout.ts";

/** Where and how the boot CPU starts. */
export interface CpuEntry {
  readonly entry: "64-bit" | "32-bit";
  readonly entryAddr: number;
}

// The protocol's selectors: __BOOT_CS 0x10, __BOOT_DS 0x18
const CODE_SELECTOR = 0x10;
const DATA_SELECTOR = 0x18;
const TASK_SELECTOR = 0x20;
// Segment types: execute/read accessed, read/write accessed, busy task state
const TYPE_CODE = 0xb;
const TYPE_DATA = 0x3;
const TYPE_TASK = 0xb;

const CR0_PE = 1n;
const CR0_ET = 1n << 4n;
const CR0_NE = 1n << 5n;
const CR0_PG = 1n << 31n;
const CR4_PAE = 1n << 5n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
/** bit 1 is always set */
const RFLAGS = 2n;

const PAGE_PRESENT_WRITABLE = 3n;
const PAGE_LARGE = 1n << 7n;
const ENTRIES = 512;
const LARGE_PAGE_BYTES = 2 * layout.MIB;

// MSRs (Intel SDM vol. 4)
const MSR_IA32_MISC_ENABLE = 0x1a0;
const MSR_MTRR_DEF_TYPE = 0x2ff;
const MISC_ENABLE_FAST_STRING = 1n;
/** MTRRs on, everything write-back */
const MTRR_ENABLE_WRITE_BACK = (1n << 11n) | 6n;

/** Writes descriptor and page tables. */
export function writeBootTables(memory: GuestMemory): void {
  const descriptor = (flags: bigint, type: bigint): bigint =>
    0x0000_ffffn | (type << 40n) | (0xfn << 48n) | (flags << 52n);
  // flags: G D/B L AVL; type byte: P DPL S type
  memory.writeU64(layout.GDT_ADDR + CODE_SELECTOR, descriptor(0xan, 0x9bn));
  memory.writeU64(layout.GDT_ADDR + DATA_SELECTOR, descriptor(0xcn, 0x93n));
  memory.writeU64(layout.GDT_ADDR + TASK_SELECTOR, descriptor(0x8n, 0x8bn));

  memory.writeU64(layout.PML4_ADDR, BigInt(layout.PDPT_ADDR) | PAGE_PRESENT_WRITABLE);
  for (let gib = 0; gib < 4; gib++) {
    const directory = layout.PAGE_DIRECTORIES_ADDR + gib * ENTRIES * 8;
    memory.writeU64(layout.PDPT_ADDR + gib * 8, BigInt(directory) | PAGE_PRESENT_WRITABLE);
    for (let page = 0; page < ENTRIES; page++) {
      const addr = BigInt(gib * layout.GIB + page * LARGE_PAGE_BYTES);
      memory.writeU64(directory + page * 8, addr | PAGE_PRESENT_WRITABLE | PAGE_LARGE);
    }
  }
}

/** Registers of the boot CPU; the other CPUs wait for its start-up interrupt. */
export function setBootRegisters(vcpu: Vcpu, { entry, entryAddr }: CpuEntry): void {
  const long = entry === "64-bit";
  const flat = { base: 0n, limit: 0xffff_ffff, present: 1, dpl: 0, s: 1, g: 1, avl: 0, unusable: 0 };
  const code = { ...flat, selector: CODE_SELECTOR, type: TYPE_CODE, l: long ? 1 : 0, db: long ? 0 : 1 };
  const data = { ...flat, selector: DATA_SELECTOR, type: TYPE_DATA, l: 0, db: 1 };
  vcpu.updateSregs({
    cs: code,
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    tr: { ...flat, selector: TASK_SELECTOR, type: TYPE_TASK, s: 0, l: 0, db: 0 },
    gdt: { base: BigInt(layout.GDT_ADDR), limit: TASK_SELECTOR + 7 },
    idt: { base: 0n, limit: 0 },
    cr0: CR0_PE | CR0_ET | CR0_NE | (long ? CR0_PG : 0n),
    cr3: long ? BigInt(layout.PML4_ADDR) : 0n,
    cr4: long ? CR4_PAE : 0n,
    efer: long ? EFER_LME | EFER_LMA : 0n,
  });
  vcpu.setRegs({
    rip: BigInt(entryAddr),
    rsi: BigInt(layout.BOOT_PARAMS_ADDR),
    rsp: BigInt(layout.BOOT_STACK_TOP),
    rflags: RFLAGS,
  });
}

/** What firmware would have set on every CPU. */
export function setCommonCpuState(vcpu: Vcpu): void {
  vcpu.resetFpu();
  vcpu.setMsrs([
    [MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING],
    [MSR_MTRR_DEF_TYPE, MTRR_ENABLE_WRITE_BACK],
  ]);
  vcpu.wireLocalApic();
}
