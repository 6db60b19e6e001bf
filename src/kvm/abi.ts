/**
 * Constants of the KVM API with their C names (linux/kvm.h, asm/kvm.h, x86).
 *
 * @module
 */

import * as structs from "./structs.ts";

// asm-generic/ioctl.h: bits 31-30 direction, 29-16 size, 15-8 type, 7-0 number
const IOC_WRITE = 1;
const IOC_READ = 2;
const KVMIO = 0xae;

function ioc(direction: number, number: number, sizeBytes: number): bigint {
  return (BigInt(direction) << 30n) | (BigInt(sizeBytes) << 16n) | (BigInt(KVMIO) << 8n) | BigInt(number);
}
const io = (number: number): bigint => ioc(0, number, 0);
const iow = (number: number, sizeBytes: number): bigint => ioc(IOC_WRITE, number, sizeBytes);
const ior = (number: number, sizeBytes: number): bigint => ioc(IOC_READ, number, sizeBytes);
const iowr = (number: number, sizeBytes: number): bigint => ioc(IOC_READ | IOC_WRITE, number, sizeBytes);

export const KVM_API_VERSION = 12;

// System ioctls
export const KVM_GET_API_VERSION = io(0x00);
export const KVM_CREATE_VM = io(0x01);
export const KVM_CHECK_EXTENSION = io(0x03);
export const KVM_GET_VCPU_MMAP_SIZE = io(0x04);
export const KVM_GET_SUPPORTED_CPUID = iowr(0x05, structs.KvmCpuid2.sizeBytes);

// VM ioctls
export const KVM_CREATE_VCPU = io(0x41);
export const KVM_SET_USER_MEMORY_REGION = iow(0x46, structs.KvmUserspaceMemoryRegion.sizeBytes);
export const KVM_SET_TSS_ADDR = io(0x47);
export const KVM_SET_IDENTITY_MAP_ADDR = iow(0x48, 8);
export const KVM_CREATE_IRQCHIP = io(0x60);
export const KVM_IRQFD = iow(0x76, structs.KvmIrqfd.sizeBytes);
export const KVM_CREATE_PIT2 = iow(0x77, structs.KvmPitConfig.sizeBytes);
export const KVM_IOEVENTFD = iow(0x79, structs.KvmIoeventfd.sizeBytes);

// vCPU ioctls
export const KVM_RUN = io(0x80);
export const KVM_GET_REGS = ior(0x81, structs.KvmRegs.sizeBytes);
export const KVM_SET_REGS = iow(0x82, structs.KvmRegs.sizeBytes);
export const KVM_GET_SREGS = ior(0x83, structs.KvmSregs.sizeBytes);
export const KVM_SET_SREGS = iow(0x84, structs.KvmSregs.sizeBytes);
export const KVM_SET_MSRS = iow(0x89, structs.KvmMsrs.sizeBytes);
export const KVM_SET_FPU = iow(0x8d, structs.KvmFpu.sizeBytes);
export const KVM_GET_LAPIC = ior(0x8e, structs.KvmLapicState.sizeBytes);
export const KVM_SET_LAPIC = iow(0x8f, structs.KvmLapicState.sizeBytes);
export const KVM_SET_CPUID2 = iow(0x90, structs.KvmCpuid2.sizeBytes);

// Capabilities
export const KVM_CAP_IRQCHIP = 0;
export const KVM_CAP_USER_MEMORY = 3;
export const KVM_CAP_SET_TSS_ADDR = 4;
export const KVM_CAP_EXT_CPUID = 7;
export const KVM_CAP_IRQFD = 32;
export const KVM_CAP_PIT2 = 33;
export const KVM_CAP_IOEVENTFD = 36;
export const KVM_CAP_SET_IDENTITY_MAP_ADDR = 37;
export const KVM_CAP_TSC_DEADLINE_TIMER = 72;
export const KVM_CAP_IMMEDIATE_EXIT = 136;

/** What the machine cannot do without, and the name to say if it is missing. */
export const REQUIRED_CAPABILITIES: Readonly<Record<string, number>> = {
  KVM_CAP_IRQCHIP,
  KVM_CAP_USER_MEMORY,
  KVM_CAP_SET_TSS_ADDR,
  KVM_CAP_EXT_CPUID,
  KVM_CAP_IRQFD,
  KVM_CAP_PIT2,
  KVM_CAP_IOEVENTFD,
  KVM_CAP_SET_IDENTITY_MAP_ADDR,
  KVM_CAP_IMMEDIATE_EXIT,
};

// Exit reasons
export const KVM_EXIT_UNKNOWN = 0;
export const KVM_EXIT_IO = 2;
export const KVM_EXIT_HLT = 5;
export const KVM_EXIT_MMIO = 6;
export const KVM_EXIT_IRQ_WINDOW_OPEN = 7;
export const KVM_EXIT_SHUTDOWN = 8;
export const KVM_EXIT_FAIL_ENTRY = 9;
export const KVM_EXIT_INTR = 10;
export const KVM_EXIT_INTERNAL_ERROR = 17;
export const KVM_EXIT_SYSTEM_EVENT = 24;

/** `kvm_run.io.direction` */
export const KVM_EXIT_IO_OUT = 1;

// Flags
export const KVM_PIT_SPEAKER_DUMMY = 1;
export const KVM_IOEVENTFD_FLAG_DATAMATCH = 1;
export const KVM_IOEVENTFD_FLAG_PIO = 2;
export const KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1;
