/**
 * The system side of the KVM API: `/dev/kvm` itself (Documentation/virt/kvm/api.rst).
 *
 * @module
 */

import { SysError } from "../ffi/errno.ts";
import { close, ioctlBuffer, ioctlValue, O, open } from "../ffi/sys.ts";
import * as abi from "./abi.ts";
import { type CpuidEntry, decodeCpuid, encodeCpuid } from "./cpuid.ts";
import { Vm } from "./vm.ts";

/** KVM is missing, closed to this user, or lacks something. */
export class KvmError extends Error {
  override readonly name = "KvmError";
}

const MAX_CPUID_ENTRIES = 256;

/** An open `/dev/kvm`. */
export class Kvm implements Disposable {
  readonly #fd: number;

  /** @throws {KvmError} with what to do about it */
  constructor(path = "/dev/kvm") {
    this.#fd = openKvm(path);
    try {
      const version = ioctlValue(this.#fd, abi.KVM_GET_API_VERSION, 0n, "KVM_GET_API_VERSION");
      if (version !== abi.KVM_API_VERSION) throw new KvmError(`KVM has API version ${version}, not 12`);
      for (const [name, capability] of Object.entries(abi.REQUIRED_CAPABILITIES)) {
        if (!this.has(capability)) throw new KvmError(`KVM on this machine lacks ${name}`);
      }
    } catch (error) {
      close(this.#fd);
      throw error;
    }
  }

  /** Whether KVM has a capability. */
  has(capability: number): boolean {
    return ioctlValue(this.#fd, abi.KVM_CHECK_EXTENSION, BigInt(capability), "KVM_CHECK_EXTENSION") > 0;
  }

  /** Bytes of a vCPU's shared page. */
  get runPageBytes(): number {
    return ioctlValue(this.#fd, abi.KVM_GET_VCPU_MMAP_SIZE, 0n, "KVM_GET_VCPU_MMAP_SIZE");
  }

  /** The CPU features that a guest can be given here. */
  supportedCpuid(): CpuidEntry[] {
    const bytes = encodeCpuid([], MAX_CPUID_ENTRIES);
    ioctlBuffer(this.#fd, abi.KVM_GET_SUPPORTED_CPUID, bytes, "KVM_GET_SUPPORTED_CPUID");
    return decodeCpuid(bytes);
  }

  /** A new virtual machine without memory or CPUs. */
  createVm(): Vm {
    return new Vm(ioctlValue(this.#fd, abi.KVM_CREATE_VM, 0n, "KVM_CREATE_VM"));
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }
}

function openKvm(path: string): number {
  try {
    return open(path, O.RDWR);
  } catch (cause) {
    if (!(cause instanceof SysError)) throw cause;
    const advice: Record<string, string> = {
      ENOENT: "this machine has no KVM: enable virtualisation in its firmware and load kvm_intel or kvm_amd",
      EACCES: "this user may not use KVM: add it to the group kvm, or run as root",
    };
    throw new KvmError(`Cannot open ${path}: ${advice[cause.code] ?? cause.code}`, { cause });
  }
}
