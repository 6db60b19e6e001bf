/**
 * Layouts of the KVM API's structures (linux/kvm.h, asm/kvm.h, x86-64). `test/kvm/abi_test.ts` compares them with the C
 * compiler's.
 *
 * @module
 */

import { nested, struct, u16, u32, u64, u8 } from "../ffi/struct.ts";

/** KVM_SET_USER_MEMORY_REGION */
export const KvmUserspaceMemoryRegion = struct("kvm_userspace_memory_region", 32, {
  slot: u32(0),
  flags: u32(4),
  guestPhysAddr: u64(8),
  memorySize: u64(16),
  userspaceAddr: u64(24),
});

/** KVM_IRQFD */
export const KvmIrqfd = struct("kvm_irqfd", 32, {
  fd: u32(0),
  gsi: u32(4),
  flags: u32(8),
  resamplefd: u32(12),
});

/** KVM_IOEVENTFD */
export const KvmIoeventfd = struct("kvm_ioeventfd", 64, {
  datamatch: u64(0),
  addr: u64(8),
  len: u32(16),
  fd: u32(20),
  flags: u32(24),
});

/** KVM_CREATE_PIT2 */
export const KvmPitConfig = struct("kvm_pit_config", 64, { flags: u32(0) });

/** KVM_GET_REGS */
export const KvmRegs = struct("kvm_regs", 144, {
  rax: u64(0),
  rbx: u64(8),
  rcx: u64(16),
  rdx: u64(24),
  rsi: u64(32),
  rdi: u64(40),
  rsp: u64(48),
  rbp: u64(56),
  r8: u64(64),
  r9: u64(72),
  r10: u64(80),
  r11: u64(88),
  r12: u64(96),
  r13: u64(104),
  r14: u64(112),
  r15: u64(120),
  rip: u64(128),
  rflags: u64(136),
});

/** Part of `kvm_sregs` */
export const KvmSegment = struct("kvm_segment", 24, {
  base: u64(0),
  limit: u32(8),
  selector: u16(12),
  type: u8(14),
  present: u8(15),
  dpl: u8(16),
  db: u8(17),
  s: u8(18),
  l: u8(19),
  g: u8(20),
  avl: u8(21),
  unusable: u8(22),
});

/** Part of `kvm_sregs` */
export const KvmDtable = struct("kvm_dtable", 16, { base: u64(0), limit: u16(8) });

/** KVM_GET_SREGS */
export const KvmSregs = struct("kvm_sregs", 312, {
  cs: nested(0, KvmSegment),
  ds: nested(24, KvmSegment),
  es: nested(48, KvmSegment),
  fs: nested(72, KvmSegment),
  gs: nested(96, KvmSegment),
  ss: nested(120, KvmSegment),
  tr: nested(144, KvmSegment),
  ldt: nested(168, KvmSegment),
  gdt: nested(192, KvmDtable),
  idt: nested(208, KvmDtable),
  cr0: u64(224),
  cr2: u64(232),
  cr3: u64(240),
  cr4: u64(248),
  cr8: u64(256),
  efer: u64(264),
  apicBase: u64(272),
});

/** KVM_SET_FPU */
export const KvmFpu = struct("kvm_fpu", 416, { fcw: u16(128), mxcsr: u32(408) });

/** KVM_GET_LAPIC: the registers as the guest sees them, each 16 bytes apart */
export const KvmLapicState = struct("kvm_lapic_state", 1024, { lint0: u32(0x350), lint1: u32(0x360) });

/** KVM_SET_CPUID2: the header before the entries */
export const KvmCpuid2 = struct("kvm_cpuid2", 8, { nent: u32(0), padding: u32(4) });

/** One entry of `kvm_cpuid2` */
export const KvmCpuidEntry2 = struct("kvm_cpuid_entry2", 40, {
  function: u32(0),
  index: u32(4),
  flags: u32(8),
  eax: u32(12),
  ebx: u32(16),
  ecx: u32(20),
  edx: u32(24),
});

/** KVM_SET_MSRS: the header before the entries */
export const KvmMsrs = struct("kvm_msrs", 8, { nmsrs: u32(0) });

/** One entry of `kvm_msrs` */
export const KvmMsrEntry = struct("kvm_msr_entry", 16, { index: u32(0), data: u64(8) });

/** Offsets in `struct kvm_run` that {@link RunPage} reads; `ioDataOffset` is relative to the page. */
export const KVM_RUN_OFFSETS = {
  immediate_exit: 1,
  exit_reason: 8,
  "hw.hardware_exit_reason": 32,
  "fail_entry.hardware_entry_failure_reason": 32,
  "io.direction": 32,
  "io.size": 33,
  "io.port": 34,
  "io.count": 36,
  "io.data_offset": 40,
  "mmio.phys_addr": 32,
  "mmio.data": 40,
  "mmio.len": 48,
  "mmio.is_write": 52,
  "internal.suberror": 32,
  "internal.ndata": 36,
  "internal.data": 40,
  "system_event.type": 32,
} as const;
