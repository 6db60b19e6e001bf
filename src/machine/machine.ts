/**
 * One virtual machine, from a configuration to its end: this file is the machine's table of contents.
 *
 * Order of the end, whatever its cause: the vCPUs leave KVM_RUN and report `stopped`; then the io thread stops and
 * closes its backends; then memory and descriptors go, newest first. A thread that throws ends the whole VM.
 *
 * @module
 */

import { SCI_IRQ } from "../../devices/acpi_power.ts";
import { POWER_IRQ } from "../../devices/power.ts";
import { Serial } from "../../devices/serial.ts";
import { EventFd } from "../ffi/event_fd.ts";
import { Mapping } from "../ffi/mapping.ts";
import { KVM_CAP_TSC_DEADLINE_TIMER } from "../kvm/abi.ts";
import { cpuidForVcpu } from "../kvm/cpuid.ts";
import { Kvm } from "../kvm/kvm.ts";
import type { Vm } from "../kvm/vm.ts";
import type { VsockTarget } from "../host/vsock_socket.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import type { StopReason, VmConfig, VmTimings } from "../vmm/protocol.ts";
import { writeAcpiTables } from "./acpi_tables.ts";
import { BootClock } from "./boot_clock.ts";
import { writeBootTables } from "./boot_cpu.ts";
import { nameDevices, usesAcpi, writeBootParams } from "./boot_params.ts";
import { checkConfig, deviceCount } from "./config.ts";
import { ConsoleTerminal } from "./console_terminal.ts";
import { IoThread } from "./io_thread.ts";
import * as layout from "./layout.ts";
import { LinkSwitch } from "./link_switch.ts";
import { type LoadedKernel, loadInitrd, loadKernel } from "./load_kernel.ts";
import { writeMpTable } from "./mp_table.ts";
import { PowerButton } from "./power_button.ts";
import { VcpuGroup } from "./vcpu_group.ts";
import { closeRegisterCalls } from "./register_call.ts";
import { VcpuThread, type VcpuThreadEvents } from "./vcpu_thread.ts";
import { callWords, SHARED_BYTES } from "./worker_protocol.ts";

/** How a VM ended. */
export interface MachineEnd {
  readonly reason: StopReason;
  readonly detail?: string;
  readonly exits: Readonly<Record<string, number>>;
}

/** A running machine. */
export class Machine {
  readonly timings: VmTimings;
  /** settles when the guest's init is ready, with all times; stays pending with another init */
  readonly booted: Promise<VmTimings>;
  /** settles when the VM has ended and everything of it is released; rejects on a bug in a thread */
  readonly ended: Promise<MachineEnd>;
  readonly #serial: Serial;
  readonly #terminal: ConsoleTerminal | undefined;
  readonly #link: LinkSwitch;
  readonly #powerButton: PowerButton;
  readonly #vcpus: VcpuGroup;
  #end: { reason: StopReason; detail?: string } | undefined;
  /** when a guest that was asked to power off is killed, on the clock of `performance.now()` */
  #deadlineMs = Infinity;
  #graceTimer: ReturnType<typeof setTimeout> | undefined;

  private constructor(parts: Parts, timings: VmTimings) {
    this.timings = timings;
    this.booted = parts.bootClock.untilReady(timings);
    this.#serial = parts.serial;
    this.#terminal = parts.terminal;
    this.#link = parts.link;
    this.#powerButton = parts.powerButton;
    this.#vcpus = new VcpuGroup(parts.vcpus, parts.shared);
    this.ended = this.#run(parts);
    for (const vcpu of parts.vcpus) {
      // First cause wins: what follows it is only a consequence.
      vcpu.ended.then((end) => this.#finish(end), () => this.#finish({ reason: "internal_error" }));
    }
    parts.io.failed.catch(() => {
      // A vCPU may be waiting for its answer.
      parts.vcpus.forEach((_, index) => closeRegisterCalls(callWords(parts.shared, index)));
      this.#finish({ reason: "internal_error" });
    });
  }

  /**
   * Makes the machine and lets it run.
   *
   * @param onConsole called when the guest wrote to its serial port: {@linkcode takeConsole} has the bytes
   * @param onVsockRefused called with what the guest tried to reach by vsock in vain, once for each
   * @throws {ConfigError} for what the caller got wrong
   * @throws {KvmError} if KVM is missing or lacks something
   * @throws {SysError} if the host refused something else
   */
  static async start(
    config: VmConfig,
    onConsole: () => void,
    onVsockRefused: (target: VsockTarget) => void = () => {},
  ): Promise<Machine> {
    const processStartMs = performance.now();
    checkConfig(config);
    using cleanup = new DisposableStack();
    const kvm = cleanup.use(new Kvm());
    const ramBytes = config.memoryMib * layout.MIB;
    const ram = cleanup.use(
      config.hugePages ? Mapping.hugePages(ramBytes) : Mapping.anonymous("guest-ram", ramBytes),
    );
    const vm = cleanup.use(kvm.createVm());
    prepareVm(vm, ram);
    const memory = new GuestMemory(ram.buffer, layout.ramRegions(ram.sizeBytes));
    const kvmReadyMs = performance.now();

    const shared = new SharedArrayBuffer(SHARED_BYTES);
    const kick = cleanup.use(new EventFd());
    const sharedRam = { hostAddr: ram.hostAddr, sizeBytes: ram.sizeBytes };
    const { disks, net, vsock, balloon = false, hugePages = false } = config;
    const devices = { disks, balloon, hugePages, ...(net && { net }), ...(vsock && { vsock }) };
    const terminalShared = config.console === "virtio"
      ? new SharedArrayBuffer(ConsoleTerminal.sharedBytes)
      : undefined;
    const terminal = terminalShared && new ConsoleTerminal(terminalShared, () => kick.signal());
    const ioStart = {
      ram: sharedRam,
      vmFd: vm.fd,
      shared,
      cpus: config.cpus,
      kickFd: kick.fd,
      config: devices,
      terminal: terminalShared,
    };
    // The threads load their code, and the io thread opens disks, while the kernel is read.
    const io = IoThread.start(
      ioStart,
      kick,
      (news) => news.type === "console" ? onConsole() : onVsockRefused(news),
    );
    const bootClock = new BootClock();
    const threadEvents: VcpuThreadEvents = {
      onConsole,
      onMarker: (marker, wallMs) => bootClock.mark(marker, wallMs),
    };
    const vcpus = Array.from({ length: config.cpus }, (_, index) => new VcpuThread(index, threadEvents));
    let kernel: LoadedKernel;
    try {
      kernel = loadSystem(config, memory);
      writeParameters(memory, config, kernel, await io.ready);
    } catch (error) {
      for (const vcpu of vcpus) vcpu.abandon();
      await io.stop();
      throw error;
    }
    const kernelLoadedMs = performance.now();

    const serialIrq = irqEvent(vm, layout.SERIAL_IRQ, cleanup);
    const moduleIrq = irqEvent(vm, POWER_IRQ, cleanup);
    const sci = irqEvent(vm, SCI_IRQ, cleanup);
    const powerButton = new PowerButton(shared, {
      moduleIrq: { trigger: () => moduleIrq.signal() },
      sci: { trigger: () => sci.signal() },
    });
    const serialShared = new SharedArrayBuffer(Serial.sharedBytes);
    const serial = new Serial(serialShared, { trigger: () => serialIrq.signal() }, () => {});
    const supported = kvm.supportedCpuid();
    const tscDeadline = kvm.has(KVM_CAP_TSC_DEADLINE_TIMER);
    // All before the first runs: a guest that starts the others at once would not reach one that is not there yet.
    const handles = vcpus.map((_, index) => cleanup.use(vm.createVcpu(index, kvm.runPageBytes)));
    handles.forEach((handle, index) => {
      vcpus[index]?.enter(handle, {
        index,
        cpuid: cpuidForVcpu(supported, { apicId: index, cpus: config.cpus, tscDeadline }),
        entry: index === 0 ? kernel : undefined,
        shared,
        serial: serialShared,
        serialIrqFd: serialIrq.fd,
        sciFd: sci.fd,
        kickFd: kick.fd,
      });
    });
    const link = new LinkSwitch(shared, () => kick.signal());
    const resources = cleanup.move();
    const parts = { resources, shared, io, vcpus, serial, terminal, link, powerButton, bootClock };
    await Promise.race([vcpus[0]?.running, ...vcpus.map((vcpu) => vcpu.stopped)]);
    return new Machine(parts, {
      processStartMs,
      kvmReadyMs,
      kernelLoadedMs,
      firstInstructionMs: performance.now(),
    });
  }

  /** Types at the console; returns how many bytes were taken (the others are to be offered again). */
  type(bytes: Uint8Array): number {
    return (this.#terminal ?? this.#serial).type(bytes);
  }

  /** What the guest wrote to its consoles since the last call. */
  takeConsole(): Uint8Array<ArrayBuffer> {
    const serial = this.#serial.drain();
    const virtio = this.#terminal?.drain() ?? new Uint8Array();
    return virtio.byteLength === 0 ? serial : new Uint8Array([...serial, ...virtio]);
  }

  /** The console's window has another size; only a virtio console can tell its guest. */
  resize(cols: number, rows: number): void {
    this.#terminal?.resize(cols, rows);
  }

  /** Plugs the cable of the network interface in or out, if there is one. */
  setLink(up: boolean): void {
    if (this.#end === undefined) this.#link.set(up);
  }

  /**
   * Takes all vCPUs out of the guest; devices finish what they were asked for. Settles with the time it took in `ms`,
   * or `undefined` if the machine ended instead.
   */
  pause(): Promise<number | undefined> {
    return this.#vcpus.pause();
  }

  /** Lets a paused guest go on; `undefined` if the machine has ended. A guest that runs just does. */
  resume(): Promise<true | undefined> {
    return this.#vcpus.resume();
  }

  /**
   * Asks the guest to power off, and kills it after `graceMs` (0: at once). A paused guest goes on, to hear of it. Asked
   * again, the time can only become shorter.
   */
  stop(graceMs: number): void {
    const deadlineMs = performance.now() + graceMs;
    if (this.#end !== undefined || deadlineMs >= this.#deadlineMs) return;
    this.#deadlineMs = deadlineMs;
    if (graceMs > 0) void this.resume();
    this.#powerButton.hold();
    clearTimeout(this.#graceTimer);
    this.#graceTimer = setTimeout(() => this.#finish({ reason: "killed" }), graceMs);
  }

  #finish(end: { reason: StopReason; detail?: string }): void {
    this.#end ??= end;
    clearTimeout(this.#graceTimer);
    this.#powerButton.release();
    this.#vcpus.stop();
  }

  async #run({ resources, io, vcpus }: Parts): Promise<MachineEnd> {
    const all = await Promise.allSettled(vcpus.map((vcpu) => vcpu.stopped));
    await io.stop();
    resources.dispose();
    for (const result of all) if (result.status === "rejected") throw result.reason;
    await io.failed;
    const stopped = all.flatMap((result) => result.status === "fulfilled" ? [result.value] : []);
    const exits: Record<string, number> = {};
    for (const [cause, count] of stopped.flatMap((vcpu) => Object.entries(vcpu.exits))) {
      exits[cause] = (exits[cause] ?? 0) + count;
    }
    const end = this.#end ?? { reason: "internal_error" };
    // Where a guest was that did not end by itself says why it did not.
    const where = stopped.map(({ rip }) => `0x${rip.toString(16)}`).join(", ");
    return { ...end, ...(end.reason === "killed" && { detail: `the guest was at ${where}` }), exits };
  }
}

interface Parts {
  readonly resources: DisposableStack;
  readonly shared: SharedArrayBuffer;
  readonly io: IoThread;
  readonly vcpus: readonly VcpuThread[];
  readonly bootClock: BootClock;
  readonly serial: Serial;
  readonly terminal: ConsoleTerminal | undefined;
  readonly link: LinkSwitch;
  readonly powerButton: PowerButton;
}

/** What a VM has before it has devices and CPUs. */
function prepareVm(vm: Vm, ram: Mapping): void {
  vm.setReservedPages({ tssAddr: layout.TSS_ADDR, identityMapAddr: layout.IDENTITY_MAP_ADDR });
  vm.createIrqchip();
  vm.createPit();
  for (const { guestAddr, sizeBytes, bufferOffset } of layout.ramRegions(ram.sizeBytes)) {
    vm.addMemory({ guestAddr, sizeBytes, hostAddr: ram.hostAddr + BigInt(bufferOffset) });
  }
}

/** The kernel, and the tables that do not depend on the devices. */
function loadSystem(config: VmConfig, memory: GuestMemory): LoadedKernel {
  const kernel = loadKernel(config.kernelPath, memory);
  writeBootTables(memory);
  writeMpTable(memory, config.cpus);
  return kernel;
}

/** What the kernel is told: its command line, its initrd, and where the tables are that describe the devices. */
function writeParameters(memory: GuestMemory, config: VmConfig, kernel: LoadedKernel, devices: string): void {
  const initrd = config.initrdPath === undefined ? undefined : loadInitrd(config.initrdPath, memory, kernel);
  const acpi = usesAcpi(config.cmdline, kernel);
  const described = { cpus: config.cpus, virtioDevices: deviceCount(config) };
  const rsdpAddr = acpi ? writeAcpiTables(memory, described) : 0;
  const cmdline = acpi ? config.cmdline : nameDevices(config.cmdline, devices);
  writeBootParams(memory, { kernel, cmdline, initrd, rsdpAddr });
}

function irqEvent(vm: Vm, irq: number, resources: DisposableStack): EventFd {
  const event = resources.use(new EventFd());
  vm.bindIrqfd(event.fd, irq);
  return event;
}
