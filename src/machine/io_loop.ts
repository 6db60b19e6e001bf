/**
 * What the io thread does: waits for notifications of queues, register calls, packets, sockets and messages, and lets
 * the device concerned work. It owns every virtio device and what is behind it.
 *
 * @module
 */

import { drainEventFd, EventFd, signalEventFd } from "../ffi/event_fd.ts";
import { IoUring } from "../ffi/io_uring.ts";
import { Iovec } from "../ffi/iovec.ts";
import { viewMapping } from "../ffi/mapping.ts";
import { EPOLL, Poller } from "../ffi/poller.ts";
import { Bus } from "../bus/bus.ts";
import { Vm } from "../kvm/vm.ts";
import { GuestMemory } from "../memory/guest_memory.ts";
import { VIRTIO_MMIO_QUEUE_NOTIFY } from "../virtio/abi.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { InterruptStatus } from "../virtio/interrupt_status.ts";
import { MmioTransport } from "../virtio/mmio_transport.ts";
import { createDevices } from "./io_devices.ts";
import { LinkSwitch } from "./link_switch.ts";
import { ConsoleTerminal } from "./console_terminal.ts";
import * as layout from "./layout.ts";
import { answerRegisterCall } from "./register_call.ts";
import { callWords, INTERRUPT_STATUS_WORD, type IoNews, type IoStart } from "./worker_protocol.ts";

/** Disk transfers of all disks that can be under way: what comes on top is done at once. */
const RING_ENTRIES = 512;

/** Host errors that are logged: a guest can cause one with every request. */
const MAX_LOGGED_ERRORS = 20;

/** The devices of one machine, and the loop that serves them. */
export class IoLoop implements Disposable {
  /** what the kernel's command line says of the devices */
  readonly cmdline: string;
  readonly #start: IoStart;
  readonly #resources = new DisposableStack();
  readonly #poller: Poller;
  readonly #bus = new Bus();
  readonly #transports = new Map<VirtioDevice, MmioTransport>();
  /** what to look for when main rings: each tells whether it is to be asked again */
  readonly #kickWork: (() => boolean)[] = [];
  #loggedErrors = 0;

  /**
   * `report` takes what main is to know at once. Opens all backends and binds all eventfds.
   *
   * @throws {SysError} or {Qcow2Error} if something cannot be opened: then nothing stays open
   */
  constructor(start: IoStart, report: (report: IoNews) => void) {
    this.#start = start;
    this.#poller = this.#resources.use(new Poller());
    try {
      this.#poller.add(start.kickFd, EPOLL.IN, () => this.#onKick());
      const ram = viewMapping(start.ram.hostAddr, start.ram.sizeBytes);
      const memory = new GuestMemory(ram, layout.ramRegions(start.ram.sizeBytes));
      const { hostAddr } = start.ram;
      const ring = IoUring.open(RING_ENTRIES, { buffer: ram, hostAddr });
      if (ring !== undefined) this.#resources.use(ring);
      const devices = createDevices({ ...start.config, cpus: start.cpus }, {
        memory,
        ramAddr: hostAddr,
        terminal: start.terminal && new ConsoleTerminal(start.terminal, () => report({ type: "console" })),
        iovec: new Iovec(ram, hostAddr),
        ring,
        poller: this.#poller,
        resources: this.#resources,
        guard: (device, work) => this.#transports.get(device)?.guard(work),
        onKick: (work) => this.#kickWork.push(work),
        link: new LinkSwitch(start.shared, () => {}),
        onVsockRefused: (target) => report({ type: "vsock_refused", ...target }),
        onHostError: (error) => this.#logHostError(error),
      });
      this.cmdline = devices.map((device, index) => this.#attach(device, index, memory)).join(" ");
    } catch (error) {
      this.#resources.dispose();
      throw error;
    }
  }

  /** Serves until `stopped` is true; it is looked at after each round, and the kick eventfd ends a wait. */
  run(stopped: () => boolean): void {
    while (!stopped()) this.#poller.poll(-1);
  }

  [Symbol.dispose](): void {
    this.#resources.dispose();
  }

  #attach(device: VirtioDevice, index: number, memory: GuestMemory): string {
    const { shared, vmFd } = this.#start;
    const { guestAddr, irq } = layout.virtioSlot(index);
    // The descriptor belongs to main, which closes it: this object is only for its calls.
    const vm = new Vm(vmFd);
    const irqEvent = this.#resources.use(new EventFd());
    vm.bindIrqfd(irqEvent.fd, irq);
    const interrupt = new InterruptStatus(new Int32Array(shared), INTERRUPT_STATUS_WORD + index, {
      trigger: () => irqEvent.signal(),
    });
    const notifyEvents = device.queueSizes.map(() => this.#resources.use(new EventFd()));
    // Work that is left waits for the next round: other devices come first.
    const onWorkLeft = (queueIndex: number): void => notifyEvents[queueIndex]?.signal();
    const transport = new MmioTransport(device, memory, interrupt, onWorkLeft);
    this.#transports.set(device, transport);
    this.#bus.add(guestAddr, layout.VIRTIO_MMIO_BYTES, transport);
    notifyEvents.forEach((notifyEvent, queueIndex) => {
      vm.bindIoeventfd(notifyEvent.fd, guestAddr + VIRTIO_MMIO_QUEUE_NOTIFY, queueIndex);
      this.#poller.add(notifyEvent.fd, EPOLL.IN, () => {
        notifyEvent.drain();
        transport.notify(queueIndex);
      });
    });
    return `virtio_mmio.device=4K@0x${guestAddr.toString(16)}:${irq}`;
  }

  #onKick(): void {
    drainEventFd(this.#start.kickFd);
    for (const work of this.#kickWork) {
      // What is left waits for the next round: other devices come first.
      if (work()) signalEventFd(this.#start.kickFd);
    }
    for (let index = 0; index < this.#start.cpus; index++) {
      answerRegisterCall(callWords(this.#start.shared, index), this.#bus);
    }
  }

  #logHostError(error: unknown): void {
    this.#loggedErrors++;
    if (this.#loggedErrors > MAX_LOGGED_ERRORS) return;
    console.error(`disk: ${error instanceof Error ? error.message : error}`);
    if (this.#loggedErrors === MAX_LOGGED_ERRORS) console.error("disk: further errors are not logged");
  }
}
