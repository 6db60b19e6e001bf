/**
 * What a vCPU thread does: enter the guest, serve the exit, again.
 *
 * @module
 */

import type { Bus } from "../bus/bus.ts";
import * as abi from "../kvm/abi.ts";
import type { RunPage } from "../kvm/run_page.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { StopReason } from "../vmm/protocol.ts";

/** Why the loop cannot go on. */
export interface VcpuEnd {
  readonly reason: StopReason;
  readonly detail?: string;
}

/** What the loop works with. */
export interface VcpuLoop {
  readonly vcpu: Vcpu;
  readonly ports: Bus;
  readonly mmio: Bus;
  /** looked at before the first entry and after each that was interrupted; waits out a pause; true: leave for good */
  readonly stopped: () => boolean;
  /** set by a device that ended the guest: power port, reset line */
  readonly ended: () => VcpuEnd | undefined;
}

const EXIT_NAMES: Readonly<Record<number, string>> = {
  [abi.KVM_EXIT_UNKNOWN]: "unknown",
  [abi.KVM_EXIT_HLT]: "hlt",
  [abi.KVM_EXIT_MMIO]: "mmio",
  [abi.KVM_EXIT_IRQ_WINDOW_OPEN]: "irq_window",
  [abi.KVM_EXIT_SHUTDOWN]: "shutdown",
  [abi.KVM_EXIT_FAIL_ENTRY]: "fail_entry",
  [abi.KVM_EXIT_INTERNAL_ERROR]: "internal_error",
  [abi.KVM_EXIT_SYSTEM_EVENT]: "system_event",
};
/** Different ports counted: a guest can touch 65,536. */
const MAX_PORTS = 64;

/** Counts exits by cause. */
export class ExitCounts {
  readonly #counts = new Map<string, number>();
  /** by port number: made into causes only when somebody asks, as most exits are of ports */
  readonly #ports = new Map<number, number>();
  #otherPorts = 0;

  add(cause: string): void {
    this.#counts.set(cause, (this.#counts.get(cause) ?? 0) + 1);
  }

  addPort(port: number): void {
    const count = this.#ports.get(port);
    if (count !== undefined) this.#ports.set(port, count + 1);
    else if (this.#ports.size < MAX_PORTS) this.#ports.set(port, 1);
    else this.#otherPorts++;
  }

  toRecord(): Record<string, number> {
    const ports = [...this.#ports].map(([port, count]) => [`port 0x${port.toString(16)}`, count] as const);
    const other = this.#otherPorts === 0 ? [] : [["other ports", this.#otherPorts] as const];
    return Object.fromEntries([...this.#counts, ...ports, ...other]);
  }
}

/**
 * Runs the vCPU until the VM ends or is told to stop (then `undefined`).
 *
 * Who wants something else from it sets `immediateExit` after saying what: the next entry is then interrupted, and not
 * before KVM has finished the instruction of the last exit. So a paused vCPU's registers are whole.
 */
export function runVcpu(loop: VcpuLoop, exits: ExitCounts): VcpuEnd | undefined {
  const { vcpu, stopped } = loop;
  if (stopped()) return undefined;
  for (;;) {
    if (vcpu.enter()) {
      const end = serveExit(loop, vcpu.run, exits);
      if (end !== undefined) return end;
    } else if (stopped()) return undefined;
  }
}

function serveExit(loop: VcpuLoop, run: RunPage, exits: ExitCounts): VcpuEnd | undefined {
  const reason = run.exitReason;
  if (reason === abi.KVM_EXIT_IO) {
    exits.addPort(run.ioPort);
    servePort(loop.ports, run);
    return loop.ended();
  }
  exits.add(EXIT_NAMES[reason] ?? `exit ${reason}`);
  switch (reason) {
    case abi.KVM_EXIT_MMIO:
      if (run.mmioIsWrite) loop.mmio.write(run.mmioAddr, run.mmioSize, run.mmioValue);
      else run.mmioValue = loop.mmio.read(run.mmioAddr, run.mmioSize);
      return undefined;
    case abi.KVM_EXIT_SHUTDOWN:
      return { reason: "reset", detail: "triple fault" };
    case abi.KVM_EXIT_INTERNAL_ERROR:
      return {
        reason: "internal_error",
        detail: `KVM cannot run the guest: suberror ${run.internalSuberror}, data ${run.internalData}`,
      };
    case abi.KVM_EXIT_FAIL_ENTRY:
      return {
        reason: "internal_error",
        detail: `KVM cannot enter the guest: 0x${run.failEntryReason.toString(16)}`,
      };
    // With the interrupt controllers in the kernel, HLT and interrupt windows are its business.
    case abi.KVM_EXIT_IRQ_WINDOW_OPEN:
    case abi.KVM_EXIT_INTR:
      return undefined;
    case abi.KVM_EXIT_SYSTEM_EVENT:
      return { reason: "reset", detail: `system event ${run.systemEventType}` };
    default:
      return { reason: "internal_error", detail: `unexpected exit: ${EXIT_NAMES[reason] ?? reason}` };
  }
}

/** IN and OUT, with as many repetitions as a string instruction has. */
function servePort(ports: Bus, run: RunPage): void {
  const { ioPort: port, ioSize: size, ioCount: count } = run;
  const isOut = run.ioDirection === abi.KVM_EXIT_IO_OUT;
  for (let index = 0; index < count; index++) {
    if (isOut) ports.write(port, size, run.ioValue(index));
    else run.setIoValue(index, ports.read(port, size));
  }
}
