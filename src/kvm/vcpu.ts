/**
 * A vCPU's side of the KVM API. Used by the one thread that runs the vCPU.
 *
 * @module
 */

import { ERRNO, SysError } from "../ffi/errno.ts";
import { libc } from "../ffi/libc.ts";
import { ioctlBuffer, lastErrno } from "../ffi/sys.ts";
import * as abi from "./abi.ts";
import { type CpuidEntry, encodeCpuid } from "./cpuid.ts";
import { RunPage } from "./run_page.ts";
import * as structs from "./structs.ts";
import type { ValuesOf } from "../ffi/struct.ts";

type Regs = ValuesOf<typeof structs.KvmRegs.fields>;
type Sregs = ValuesOf<typeof structs.KvmSregs.fields>;

/** LVT delivery modes (Intel SDM vol. 3, 11.5.1) */
const LVT_EXTINT = 0x700;
const LVT_NMI = 0x400;

/** One virtual CPU. */
export class Vcpu {
  readonly run: RunPage;
  readonly #fd: number;

  constructor(fd: number, runPage: ArrayBuffer) {
    this.#fd = fd;
    this.run = new RunPage(runPage);
  }

  /**
   * Runs the guest until the next exit, which {@linkcode run} then describes.
   *
   * @returns false if a signal or `immediateExit` ended it: there is no exit to look at
   * @throws {SysError} if KVM cannot run the vCPU at all
   */
  enter(): boolean {
    if (libc.ioctl_value(this.#fd, abi.KVM_RUN, 0n) === 0) return true;
    const errno = lastErrno();
    if (errno === ERRNO.EINTR || errno === ERRNO.EAGAIN) return false;
    throw new SysError("KVM_RUN", errno);
  }

  regs(): Regs {
    const bytes = new Uint8Array(structs.KvmRegs.sizeBytes);
    ioctlBuffer(this.#fd, abi.KVM_GET_REGS, bytes, "KVM_GET_REGS");
    return structs.KvmRegs.decode(bytes);
  }

  setRegs(regs: Partial<Regs>): void {
    ioctlBuffer(this.#fd, abi.KVM_SET_REGS, structs.KvmRegs.encode(regs), "KVM_SET_REGS");
  }

  /** Changes the given special registers; the others stay. */
  updateSregs(sregs: Partial<Sregs>): void {
    const bytes = new Uint8Array(structs.KvmSregs.sizeBytes);
    ioctlBuffer(this.#fd, abi.KVM_GET_SREGS, bytes, "KVM_GET_SREGS");
    structs.KvmSregs.update(bytes, sregs);
    ioctlBuffer(this.#fd, abi.KVM_SET_SREGS, bytes, "KVM_SET_SREGS");
  }

  setCpuid(entries: readonly CpuidEntry[]): void {
    ioctlBuffer(this.#fd, abi.KVM_SET_CPUID2, encodeCpuid(entries), "KVM_SET_CPUID2");
  }

  /** Sets MSRs, best effort: KVM stops at the first that the CPU does not have. */
  setMsrs(msrs: readonly (readonly [index: number, data: bigint])[]): void {
    for (const [index, data] of msrs) {
      const bytes = new Uint8Array(structs.KvmMsrs.sizeBytes + structs.KvmMsrEntry.sizeBytes);
      structs.KvmMsrs.update(bytes, { nmsrs: 1 });
      bytes.set(structs.KvmMsrEntry.encode({ index, data }), structs.KvmMsrs.sizeBytes);
      ioctlBuffer(this.#fd, abi.KVM_SET_MSRS, bytes, "KVM_SET_MSRS");
    }
  }

  /** The x87 and SSE state of a CPU after power-on (Intel SDM vol. 3, table 10-1). */
  resetFpu(): void {
    ioctlBuffer(
      this.#fd,
      abi.KVM_SET_FPU,
      structs.KvmFpu.encode({ fcw: 0x37f, mxcsr: 0x1f80 }),
      "KVM_SET_FPU",
    );
  }

  /** Wires the legacy interrupt pins of the local APIC as firmware does: LINT0 to the PIC, LINT1 to NMI. */
  wireLocalApic(): void {
    const bytes = new Uint8Array(structs.KvmLapicState.sizeBytes);
    ioctlBuffer(this.#fd, abi.KVM_GET_LAPIC, bytes, "KVM_GET_LAPIC");
    structs.KvmLapicState.update(bytes, { lint0: LVT_EXTINT, lint1: LVT_NMI });
    ioctlBuffer(this.#fd, abi.KVM_SET_LAPIC, bytes, "KVM_SET_LAPIC");
  }
}
