/**
 * A virtual machine's side of the KVM API: memory, interrupt controllers, eventfds.
 *
 * @module
 */

import { Mapping } from "../ffi/mapping.ts";
import { close, ioctlBuffer, ioctlValue } from "../ffi/sys.ts";
import * as abi from "./abi.ts";
import * as structs from "./structs.ts";

/** A vCPU as its creator holds it: the worker that runs it makes a {@link Vcpu} of the two numbers. */
export interface VcpuHandle extends Disposable {
  readonly fd: number;
  readonly runPage: Mapping;
}

/** An open KVM virtual machine. */
export class Vm implements Disposable {
  /** for calls from other threads of this process */
  readonly fd: number;
  #slots = 0;

  constructor(fd: number) {
    this.fd = fd;
  }

  /**
   * The addresses of four pages that KVM on Intel needs for itself, below 4 GiB and outside RAM and devices: three for
   * the TSS of real mode, one for an identity map.
   */
  setReservedPages({ tssAddr, identityMapAddr }: { tssAddr: number; identityMapAddr: number }): void {
    const identity = new Uint8Array(BigUint64Array.of(BigInt(identityMapAddr)).buffer);
    ioctlBuffer(this.fd, abi.KVM_SET_IDENTITY_MAP_ADDR, identity, "KVM_SET_IDENTITY_MAP_ADDR");
    ioctlValue(this.fd, abi.KVM_SET_TSS_ADDR, BigInt(tssAddr), "KVM_SET_TSS_ADDR");
  }

  /** PICs, IOAPIC and LAPICs in the kernel. Before any vCPU. */
  createIrqchip(): void {
    ioctlValue(this.fd, abi.KVM_CREATE_IRQCHIP, 0n, "KVM_CREATE_IRQCHIP");
  }

  /** The i8254 timer in the kernel, with port 0x61. */
  createPit(): void {
    const config = structs.KvmPitConfig.encode({ flags: abi.KVM_PIT_SPEAKER_DUMMY });
    ioctlBuffer(this.fd, abi.KVM_CREATE_PIT2, config, "KVM_CREATE_PIT2");
  }

  /** Gives the guest RAM at `guestAddr`; the memory must outlive the VM. */
  addMemory(
    { guestAddr, hostAddr, sizeBytes }: { guestAddr: number; hostAddr: bigint; sizeBytes: number },
  ): void {
    const region = structs.KvmUserspaceMemoryRegion.encode({
      slot: this.#slots++,
      guestPhysAddr: BigInt(guestAddr),
      memorySize: BigInt(sizeBytes),
      userspaceAddr: hostAddr,
    });
    ioctlBuffer(this.fd, abi.KVM_SET_USER_MEMORY_REGION, region, "KVM_SET_USER_MEMORY_REGION");
  }

  /** Each signal of the eventfd raises interrupt `gsi` once. */
  bindIrqfd(eventFd: number, gsi: number): void {
    ioctlBuffer(this.fd, abi.KVM_IRQFD, structs.KvmIrqfd.encode({ fd: eventFd, gsi }), "KVM_IRQFD");
  }

  /** A 32-bit write of `value` at `guestAddr` signals the eventfd, without an exit to this process. */
  bindIoeventfd(eventFd: number, guestAddr: number, value: number): void {
    const request = structs.KvmIoeventfd.encode({
      datamatch: BigInt(value),
      addr: BigInt(guestAddr),
      len: 4,
      fd: eventFd,
      flags: abi.KVM_IOEVENTFD_FLAG_DATAMATCH,
    });
    ioctlBuffer(this.fd, abi.KVM_IOEVENTFD, request, "KVM_IOEVENTFD");
  }

  /** A new vCPU with its shared page mapped. */
  createVcpu(id: number, runPageBytes: number): VcpuHandle {
    const fd = ioctlValue(this.fd, abi.KVM_CREATE_VCPU, BigInt(id), "KVM_CREATE_VCPU");
    try {
      const runPage = Mapping.ofFd(fd, runPageBytes);
      return {
        fd,
        runPage,
        [Symbol.dispose](): void {
          runPage[Symbol.dispose]();
          close(fd);
        },
      };
    } catch (error) {
      close(fd);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    close(this.fd);
  }
}
