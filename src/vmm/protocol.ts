/**
 * What the control process and a VMM process say to each other: newline-delimited JSON, control to VMM on
 * the VMM's stdin, VMM to control on its stdout. Stderr is free text for humans. One VMM process runs one VM.
 *
 * The VMM sends `hello` when it can take a `start`. End of its stdin means that the control process is gone:
 * the VMM then kills the guest and exits. After `stopped` or `failed` it exits by itself.
 *
 * @module
 */

/** A virtio-blk disk. */
export interface DiskConfig {
  /** path of the image (for an overlay: of the overlay file, which is created) */
  readonly path: string;
  /** format of the image at `path` */
  readonly format: "raw" | "qcow2";
  /** create `path` as a fresh qcow2 overlay over this file (default: open `path` as it is) */
  readonly overlayOf?: { readonly path: string; readonly format: "raw" | "qcow2" };
  /** offer the disk read-only (default false) */
  readonly readOnly?: boolean;
  /** serial number that the guest sees: at most 20 characters of ASCII (default `disk0`, `disk1`, …) */
  readonly serial?: string;
  /** average rates that the disk is held to, reads and writes together (default none) */
  readonly rateLimit?: RateLimitConfig;
}

/** Average rates, whole numbers from 1; a second's worth may pass at once. */
export interface RateLimitConfig {
  readonly bytesPerSecond?: number;
  readonly operationsPerSecond?: number;
}

/**
 * A virtio-net interface on a TAP device that exists in the VMM's network namespace, or is made there. With several vCPUs
 * it has a pair of queues for each (at most 16), unless the device exists and was made without `multi_queue`: then one.
 */
export interface NetConfig {
  /** name of the TAP device */
  readonly tap: string;
  /** guest's MAC address (default 06:00:ac:1e:00:02) */
  readonly mac?: string;
  /** largest packet that the guest should send, 68 to 65535 bytes (default: the guest's own choice) */
  readonly mtu?: number;
  /** average rates that the interface is held to, both directions together (default none) */
  readonly rateLimit?: RateLimitConfig;
}

/** Everything a VM is made from. */
export interface VmConfig {
  /** path of an ELF `vmlinux` or a `bzImage` */
  readonly kernelPath: string;
  /** path of an initrd */
  readonly initrdPath?: string;
  /**
   * kernel command line. A bzImage finds its devices by ACPI; for an ELF kernel their `virtio_mmio.device=` words are
   * added. The words `acpi=on` and `acpi=off` change that
   */
  readonly cmdline: string;
  /** guest RAM in `MiB` */
  readonly memoryMib: number;
  /** number of vCPUs */
  readonly cpus: number;
  /** disks in order: /dev/vda, /dev/vdb, … */
  readonly disks: readonly DiskConfig[];
  /** network interface (default none) */
  readonly net?: NetConfig;
  /**
   * where typed bytes go: the serial port (default), or a virtio console, which is there then (`console=hvc0`) and knows
   * the window's size; output of both is shown
   */
  readonly console?: "serial" | "virtio";
  /** memory balloon: pages that the guest does not use go back to the host (default none) */
  readonly balloon?: boolean;
  /** back RAM with huge pages where the host can: faster, but given back to it in pieces of 2 MiB (default false) */
  readonly hugePages?: boolean;
  /** vsock device: guest's context id and the Unix socket path (Firecracker's convention, default none) */
  readonly vsock?: { readonly cid: number; readonly socketPath: string };
  /** how long the guest has to power off when the VMM gets SIGTERM, in `ms` (default 10,000) */
  readonly graceMs?: number;
}

/** Control to VMM. */
export type VmmRequest =
  | { readonly type: "start"; readonly config: VmConfig }
  /** ask the guest to power off (IRQ 5 and ACPI power button); kill it after `graceMs` */
  | { readonly type: "stop"; readonly graceMs: number }
  /** take all vCPUs out of the guest, which `paused` answers; nothing if it is paused already, but the answer */
  | { readonly type: "pause" }
  /** let a paused guest go on, which `resumed` answers */
  | { readonly type: "resume" }
  /** bytes typed at the console, base64 */
  | { readonly type: "console"; readonly data: string }
  /** the console's window has this size, in characters: for a virtio console */
  | { readonly type: "resize"; readonly cols: number; readonly rows: number }
  /** plug the network interface's cable in (as it is at the start) or out; nothing where there is no interface */
  | { readonly type: "link"; readonly up: boolean };

/** Why a VM ended. */
export type StopReason =
  /** the guest powered off: power port, or ACPI's S5 */
  | "poweroff"
  /** the guest rebooted (i8042 reset line or triple fault) */
  | "reset"
  /** the guest did not power off within the grace time and was killed */
  | "killed"
  /** KVM could not run the guest further */
  | "internal_error";

/** Times of a start in `ms`, each since the VMM process was started. */
export interface VmTimings {
  readonly processStartMs: number;
  readonly kvmReadyMs: number;
  readonly kernelLoadedMs: number;
  readonly firstInstructionMs: number;
  /** the guest's PID 1 began (only in `booted`, and only if it says so) */
  readonly initMs?: number;
  /** the guest's PID 1 was ready to serve (only in `booted`) */
  readonly readyMs?: number;
}

/** VMM to control. */
export type VmmEvent =
  | { readonly type: "hello"; readonly pid: number }
  | { readonly type: "started"; readonly timings: VmTimings }
  /** bytes the guest wrote to its serial console, base64 */
  | { readonly type: "console"; readonly data: string }
  /** the guest's init said that it is ready; a guest with another init never does */
  | { readonly type: "booted"; readonly timings: VmTimings }
  /** no vCPU is in the guest any more; `pauseMs`: how long that took in `ms` */
  | { readonly type: "paused"; readonly pauseMs: number }
  | { readonly type: "resumed" }
  /** the guest tried to connect to this vsock address, where nothing is for it: each is told once, the first 64 */
  | { readonly type: "vsock_refused"; readonly cid: number; readonly port: number }
  /** `exits`: exits to userspace by cause */
  | {
    readonly type: "stopped";
    readonly reason: StopReason;
    readonly detail?: string;
    readonly exits: Readonly<Record<string, number>>;
  }
  /** the VM could not be made or run; `code` is `config`, `kvm`, `host` or `bug` */
  | { readonly type: "failed"; readonly code: "config" | "kvm" | "host" | "bug"; readonly message: string };

/** Exit codes of a VMM process. */
export const VMM_EXIT = { ok: 0, config: 2, kvm: 3, host: 4, bug: 70 } as const;

/** Longest line either side accepts, in bytes. */
export const MAX_LINE_BYTES = 1024 * 1024;
