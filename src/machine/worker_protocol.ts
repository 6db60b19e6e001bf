/**
 * What the threads of a VMM process share and tell each other.
 *
 * Threads: `main` (control), `vcpu-N` (one a CPU: a synchronous KVM_RUN loop), `io` (one: a synchronous poll loop that
 * owns every virtio device). Guest RAM and the kvm_run pages cross as addresses; the words below are in one
 * SharedArrayBuffer and are touched by `Atomics` only; everything else has one owner and crosses as a message.
 *
 * @module
 */

import type { BootMarker } from "../../devices/boot_marker.ts";
import type { CpuidEntry } from "../kvm/cpuid.ts";
import type { VmConfig } from "../vmm/protocol.ts";
import { MAX_CPUS, MAX_VIRTIO_DEVICES } from "./layout.ts";
import type { VcpuEnd } from "./vcpu_loop.ts";

// --- Shared words

/** what the vCPUs have to do: {@link RUN}, {@link STOP}, or the number of a pause (1, 2, …) */
export const CONTROL_WORD = 0;
export const RUN = 0;
export const STOP = -1;
/** how many requests main has put on the io thread's port */
export const IO_REQUESTS_WORD = 1;
/** 1 while the network interface's cable is not plugged in */
export const UNPLUGGED_WORD = 2;
/** state of the ACPI power registers: `ACPI_POWER_WORDS` words */
export const ACPI_POWER_WORD = 4;
/** interrupt status of virtio device n */
export const INTERRUPT_STATUS_WORD = 8;
/** register calls of vCPU n to the io thread, {@link CALL_WORDS} each */
const CALLS_WORD = INTERRUPT_STATUS_WORD + MAX_VIRTIO_DEVICES;

/** Offsets in a call; while `STATE` is 1 it belongs to the io thread. */
export const CALL = { STATE: 0, IS_WRITE: 1, ADDR: 2, SIZE: 3, VALUE_LOW: 4, VALUE_HIGH: 5 } as const;
const CALL_WORDS = 8;

/** Size of the shared words in bytes. */
export const SHARED_BYTES = 4 * (CALLS_WORD + MAX_CPUS * CALL_WORDS);

/** The words of vCPU `index`'s register call. */
export function callWords(shared: SharedArrayBuffer, index: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(shared, 4 * (CALLS_WORD + index * CALL_WORDS), CALL_WORDS);
}

/** Address of a thread's program: beside this module, and in the form that this has: source, or one file. */
export function threadProgram(name: "io_worker" | "vcpu_worker"): string {
  const extension = import.meta.url.endsWith(".js") ? "js" : "ts";
  return new URL(`./${name}.${extension}`, import.meta.url).href;
}

// --- Messages

/** Guest RAM, by address. */
export interface SharedRam {
  readonly hostAddr: bigint;
  readonly sizeBytes: number;
}

/** Starts the io thread. */
export interface IoStart {
  readonly type: "start";
  readonly ram: SharedRam;
  readonly vmFd: number;
  readonly shared: SharedArrayBuffer;
  readonly cpus: number;
  /** eventfd that a vCPU (for a register call) or main (for a message on `port`) rings */
  readonly kickFd: number;
  readonly config: Pick<VmConfig, "disks" | "net" | "vsock" | "balloon" | "hugePages">;
  readonly port: MessagePort;
  /** memory of a virtio console's terminal, if there is one */
  readonly terminal: SharedArrayBuffer | undefined;
}

/** Main to a running io thread, by port and kick. */
export type IoRequest = { readonly type: "stop" };

/** What the io thread tells main while it runs. */
export type IoNews =
  /** output of the virtio console waits */
  | { readonly type: "console" }
  /** the guest tried to reach this by vsock: each target once */
  | { readonly type: "vsock_refused"; readonly cid: number; readonly port: number };

/** io thread to main. */
export type IoReport =
  | IoNews
  /** devices are there; `cmdline` names them to the kernel */
  | { readonly type: "ready"; readonly cmdline: string }
  | { readonly type: "failed"; readonly code: "config" | "host"; readonly message: string }
  | { readonly type: "stopped" };

/** Starts a vCPU thread. */
export interface VcpuStart {
  readonly type: "start";
  readonly index: number;
  readonly vcpuFd: number;
  readonly runPage: SharedRam;
  readonly cpuid: readonly CpuidEntry[];
  /** only for the boot CPU */
  readonly entry: { readonly entry: "64-bit" | "32-bit"; readonly entryAddr: number } | undefined;
  readonly shared: SharedArrayBuffer;
  readonly serial: SharedArrayBuffer;
  readonly serialIrqFd: number;
  /** eventfd of ACPI's system control interrupt */
  readonly sciFd: number;
  readonly kickFd: number;
}

/** vCPU thread to main. */
export type VcpuReport =
  /** about to enter the guest; `tid` is what to signal */
  | { readonly type: "running"; readonly tid: number }
  /** serial output waits */
  | { readonly type: "console" }
  /** the guest said how far it is, at `wallMs` (since 1970) */
  | { readonly type: "marker"; readonly marker: BootMarker; readonly wallMs: number }
  /** out of KVM_RUN until pause number `pause` ends */
  | { readonly type: "paused"; readonly pause: number }
  /** the guest ended, or KVM could not go on */
  | { readonly type: "ended"; readonly end: VcpuEnd }
  /** out of KVM_RUN for good */
  | ({ readonly type: "stopped" } & VcpuStopped);

/** What is left of a vCPU. */
export interface VcpuStopped {
  readonly exits: Readonly<Record<string, number>>;
  /** the instruction that it would run next */
  readonly rip: bigint;
}
