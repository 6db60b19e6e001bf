/**
 * Finds out whether the local KVM can run an ordinary kernel, by running a guest that does what kernels do. Reading
 * CPU flags is not enough: a KVM without hardware support emulates kernel code, and does not know all of it.
 *
 * Run as a program it prints one line of JSON: `{"ok":…,"reason":…}`.
 *
 * @module
 */

import { Mapping } from "../ffi/mapping.ts";
import { SysError } from "../ffi/errno.ts";
import { KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO } from "../kvm/abi.ts";
import { Kvm, KvmError } from "../kvm/kvm.ts";
import { Vcpu } from "../kvm/vcpu.ts";
import { setBootRegisters, writeBootTables } from "../machine/boot_cpu.ts";
import * as layout from "../machine/layout.ts";
import { GuestMemory } from "../memory/guest_memory.ts";

/** What was found. */
export interface ProbeResult {
  readonly ok: boolean;
  /** one line for people */
  readonly reason: string;
}

const PROBE_ADDR = 0x10_0000;
const PROBE_PORT = 0x10;
/**
 * 64-bit code of privilege level 0:
 *
 * - CR4.OSFXSR and CR4.OSXMMEXCPT on, so that SSE may be used
 * - `popcnt rax, rbx`, and `fxsave`/`fxrstor` of a page of its own: kernels do both, emulators know neither all
 * - `xgetbv`-free XSAVE set-up: CR4.OSXSAVE on, then `xrstor` with an empty mask
 * - `out 0x10, al` to say that all of it ran
 */
const PROBE_CODE = Uint8Array.from([
  ...[0x0f, 0x20, 0xe0], // mov rax, cr4
  ...[0x48, 0x0d, 0x00, 0x06, 0x04, 0x00], // or rax, OSFXSR | OSXMMEXCPT | OSXSAVE
  ...[0x0f, 0x22, 0xe0], // mov cr4, rax
  ...[0xf3, 0x48, 0x0f, 0xb8, 0xc3], // popcnt rax, rbx
  ...[0x48, 0xc7, 0xc7, 0x00, 0x00, 0x30, 0x00], // mov rdi, 0x300000
  ...[0x0f, 0xae, 0x07], // fxsave [rdi]
  ...[0x31, 0xc0], // xor eax, eax
  ...[0x31, 0xd2], // xor edx, edx
  ...[0x48, 0x0f, 0xae, 0x2f], // xrstor64 [rdi]
  ...[0xe6, PROBE_PORT], // out PROBE_PORT, al
]);

/** Runs the probe guest. */
export function probeKvm(): ProbeResult {
  try {
    using resources = new DisposableStack();
    const kvm = resources.use(new Kvm());
    const ram = resources.use(Mapping.anonymous("probe-ram", 8 * layout.MIB));
    const vm = resources.use(kvm.createVm());
    vm.setReservedPages({ tssAddr: layout.TSS_ADDR, identityMapAddr: layout.IDENTITY_MAP_ADDR });
    vm.addMemory({ guestAddr: 0, hostAddr: ram.hostAddr, sizeBytes: ram.sizeBytes });
    const memory = new GuestMemory(ram.buffer);
    writeBootTables(memory);
    memory.copyIn(PROBE_ADDR, PROBE_CODE);
    const handle = resources.use(vm.createVcpu(0, kvm.runPageBytes));
    const vcpu = new Vcpu(handle.fd, handle.runPage.buffer);
    vcpu.setCpuid(kvm.supportedCpuid());
    setBootRegisters(vcpu, { entry: "64-bit", entryAddr: PROBE_ADDR });
    while (!vcpu.enter());
    return judge(vcpu);
  } catch (error) {
    if (error instanceof KvmError || error instanceof SysError) return { ok: false, reason: error.message };
    throw error;
  }
}

function judge(vcpu: Vcpu): ProbeResult {
  if (vcpu.run.exitReason === KVM_EXIT_IO && vcpu.run.ioPort === PROBE_PORT) {
    return { ok: true, reason: "KVM runs ordinary kernel code" };
  }
  if (vcpu.run.exitReason === KVM_EXIT_INTERNAL_ERROR) {
    return { ok: false, reason: "KVM here emulates kernel code and cannot run an ordinary kernel" };
  }
  return { ok: false, reason: `KVM here cannot run an ordinary kernel: exit ${vcpu.run.exitReason}` };
}

if (import.meta.main) console.log(JSON.stringify(probeKvm()));
