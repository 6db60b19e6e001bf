/**
 * CPUID tables, as KVM takes them, and what has to be changed in them for each vCPU: the host's own topology must not
 * show through (AMD64 manual vol. 3 appendix E, Intel SDM vol. 2 CPUID).
 *
 * @module
 */

import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from "./abi.ts";
import { KvmCpuid2, KvmCpuidEntry2 } from "./structs.ts";

/** One leaf. */
export interface CpuidEntry {
  function: number;
  index: number;
  flags: number;
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

/** `struct kvm_cpuid2` with room for `capacity` entries. */
export function encodeCpuid(
  entries: readonly CpuidEntry[],
  capacity = entries.length,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(KvmCpuid2.sizeBytes + capacity * KvmCpuidEntry2.sizeBytes);
  KvmCpuid2.update(bytes, { nent: capacity });
  entries.forEach((entry, index) => {
    bytes.set(KvmCpuidEntry2.encode(entry), KvmCpuid2.sizeBytes + index * KvmCpuidEntry2.sizeBytes);
  });
  return bytes;
}

/** The entries of a `struct kvm_cpuid2`. */
export function decodeCpuid(bytes: Uint8Array): CpuidEntry[] {
  const { nent } = KvmCpuid2.decode(bytes);
  return Array.from(
    { length: nent },
    (_, index) =>
      KvmCpuidEntry2.decode(bytes.subarray(KvmCpuid2.sizeBytes + index * KvmCpuidEntry2.sizeBytes)),
  );
}

const ECX_TSC_DEADLINE = 1 << 24;
const ECX_HYPERVISOR = 1 << 31;
const EDX_HTT = 1 << 28;
/** cache line for CLFLUSH, in units of 8 bytes */
const CLFLUSH_UNITS = 8;
const LEVEL_THREAD = 1;
const LEVEL_CORE = 2;

/** The table for vCPU `apicId` of `cpus`: one socket, a core a vCPU. */
export function cpuidForVcpu(
  supported: readonly CpuidEntry[],
  options: { apicId: number; cpus: number; tscDeadline: boolean },
): CpuidEntry[] {
  const { apicId, cpus } = options;
  const coreBits = Math.ceil(Math.log2(cpus));
  const entries = supported.filter((entry) => !isTopology(entry.function)).map((entry) => ({ ...entry }));
  for (const entry of entries) patch(entry, { ...options, coreBits });
  // The leaves exist only where the CPU that KVM describes has them; a leaf above the maximum is never read.
  for (const leaf of [0xb, 0x1f].filter((leaf) => supported.some((entry) => entry.function === leaf))) {
    const flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    const level = (index: number, shift: number, count: number, type: number): CpuidEntry => (
      { function: leaf, index, flags, eax: shift, ebx: count, ecx: index | (type << 8), edx: apicId }
    );
    entries.push(level(0, 0, 1, LEVEL_THREAD), level(1, coreBits, cpus, LEVEL_CORE), level(2, 0, 0, 0));
  }
  return entries;
}

function isTopology(leaf: number): boolean {
  return leaf === 0xb || leaf === 0x1f;
}

function patch(
  entry: CpuidEntry,
  { apicId, cpus, tscDeadline, coreBits }: {
    apicId: number;
    cpus: number;
    tscDeadline: boolean;
    coreBits: number;
  },
): void {
  switch (entry.function) {
    case 0x1:
      entry.ebx = ((apicId << 24) | (cpus << 16) | (CLFLUSH_UNITS << 8) | (entry.ebx & 0xff)) >>> 0;
      entry.ecx = (entry.ecx | ECX_HYPERVISOR | (tscDeadline ? ECX_TSC_DEADLINE : 0)) >>> 0;
      entry.edx = (cpus > 1 ? entry.edx | EDX_HTT : entry.edx & ~EDX_HTT) >>> 0;
      return;
    case 0x4: {
      // Intel cache leaf: bits 31-26 cores in the package - 1, bits 25-14 threads that share the cache - 1
      const cacheLevel = (entry.eax >>> 5) & 7;
      const sharing = cacheLevel >= 3 ? cpus - 1 : 0;
      if ((entry.eax & 0x1f) !== 0) {
        entry.eax = ((entry.eax & 0x3fff) | (sharing << 14) | ((2 ** coreBits - 1) << 26)) >>> 0;
      }
      return;
    }
    case 0x8000_0008:
      // AMD: bits 15-12 width of the core id in the APIC id, bits 7-0 cores - 1
      entry.ecx = ((coreBits << 12) | (cpus - 1)) >>> 0;
      return;
    case 0x8000_001e:
      // AMD: extended APIC id; one thread a core; one node
      entry.eax = apicId;
      entry.ebx = apicId;
      entry.ecx = 0;
      return;
  }
}
