/**
 * Entry of a vCPU thread: builds what the loop needs from the start message, and runs it.
 *
 * @module
 */

import {
  ACPI_POWER_WORDS,
  AcpiPower,
  PM1_CONTROL_BYTES,
  PM1_EVENT_BYTES,
  PM1_EVENT_PORT,
} from "../../devices/acpi_power.ts";
import { BOOT_MARKER_PORT, type BootMarker, BootMarkerPort } from "../../devices/boot_marker.ts";
import { I8042 } from "../../devices/i8042.ts";
import { Power, POWER_PORT } from "../../devices/power.ts";
import { Rtc } from "../../devices/rtc.ts";
import { Serial } from "../../devices/serial.ts";
import { Bus } from "../bus/bus.ts";
import { collectGarbage } from "../ffi/collect_garbage.ts";
import { signalEventFd } from "../ffi/event_fd.ts";
import { viewMapping } from "../ffi/mapping.ts";
import { gettid } from "../ffi/sys.ts";
import { Vcpu } from "../kvm/vcpu.ts";
import { setBootRegisters, setCommonCpuState } from "./boot_cpu.ts";
import { InterruptRegisters } from "./interrupt_registers.ts";
import * as layout from "./layout.ts";
import { RegisterCaller } from "./register_call.ts";
import { ExitCounts, runVcpu, type VcpuEnd } from "./vcpu_loop.ts";
import {
  ACPI_POWER_WORD,
  callWords,
  CONTROL_WORD,
  INTERRUPT_STATUS_WORD,
  RUN,
  STOP,
  type VcpuReport,
  type VcpuStart,
} from "./worker_protocol.ts";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<VcpuStart>) => void) | null;
  postMessage(report: VcpuReport): void;
  close(): void;
};

// Now, while the kernel is loaded: later it would keep the guest waiting.
collectGarbage();

scope.onmessage = ({ data }) => {
  const exits = new ExitCounts();
  const vcpu = createVcpu(data);
  const end = run(data, vcpu, exits);
  if (end !== undefined) scope.postMessage({ type: "ended", end });
  scope.postMessage({ type: "stopped", exits: exits.toRecord(), rip: vcpu.regs().rip });
  scope.close();
};

function createVcpu(start: VcpuStart): Vcpu {
  const vcpu = new Vcpu(start.vcpuFd, viewMapping(start.runPage.hostAddr, start.runPage.sizeBytes));
  vcpu.setCpuid(start.cpuid);
  setCommonCpuState(vcpu);
  if (start.entry !== undefined) setBootRegisters(vcpu, start.entry);
  return vcpu;
}

function run(start: VcpuStart, vcpu: Vcpu, exits: ExitCounts): VcpuEnd | undefined {
  const words = new Int32Array(start.shared);
  let ended: VcpuEnd | undefined;
  const ports = portBus(start, (end) => ended ??= end);
  const mmio = mmioBus(start);
  scope.postMessage({ type: "running", tid: gettid() });
  return runVcpu(
    { vcpu, ports, mmio, stopped: () => waitToRun(words), ended: () => ended },
    exits,
  );
}

/** Says that it is paused while it has to be; true if the vCPU has to stop. */
function waitToRun(words: Int32Array<SharedArrayBuffer>): boolean {
  for (;;) {
    const control = Atomics.load(words, CONTROL_WORD);
    if (control === RUN) return false;
    if (control === STOP) return true;
    scope.postMessage({ type: "paused", pause: control });
    // Each pause has its own number: one that begins before this thread woke from the last is not taken for that.
    while (Atomics.load(words, CONTROL_WORD) === control) Atomics.wait(words, CONTROL_WORD, control);
  }
}

function portBus(start: VcpuStart, end: (end: VcpuEnd) => void): Bus {
  const bus = new Bus();
  const serial = new Serial(
    start.serial,
    { trigger: () => signalEventFd(start.serialIrqFd) },
    () => scope.postMessage({ type: "console" }),
  );
  bus.add(layout.SERIAL_PORT, 8, serial);
  bus.add(layout.RTC_PORT, 2, new Rtc(() => new Date()));
  bus.add(layout.I8042_PORT, 5, new I8042(() => end({ reason: "reset" })));
  const onMarker = (marker: BootMarker): void => {
    scope.postMessage({ type: "marker", marker, wallMs: performance.timeOrigin + performance.now() });
  };
  bus.add(BOOT_MARKER_PORT, 1, new BootMarkerPort(onMarker));
  bus.add(POWER_PORT, 1, new Power(() => end({ reason: "poweroff" })));
  const acpiPower = new AcpiPower(
    new Int32Array(start.shared, 4 * ACPI_POWER_WORD, ACPI_POWER_WORDS),
    { trigger: () => signalEventFd(start.sciFd) },
    () => end({ reason: "poweroff" }),
  );
  bus.add(PM1_EVENT_PORT, PM1_EVENT_BYTES + PM1_CONTROL_BYTES, acpiPower);
  return bus;
}

function mmioBus(start: VcpuStart): Bus {
  const bus = new Bus();
  const status = new Int32Array(start.shared, 4 * INTERRUPT_STATUS_WORD, layout.MAX_VIRTIO_DEVICES);
  const registers = new RegisterCaller(
    callWords(start.shared, start.index),
    start.kickFd,
    layout.VIRTIO_MMIO_ADDR,
  );
  const windowBytes = layout.MAX_VIRTIO_DEVICES * layout.VIRTIO_MMIO_BYTES;
  bus.add(layout.VIRTIO_MMIO_ADDR, windowBytes, new InterruptRegisters(status, registers));
  return bus;
}
