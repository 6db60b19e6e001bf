/**
 * virtio over MMIO, version 2 (virtio 1.2 §4.2): the register file of one device, and the hand-over of its queues.
 *
 * The guest controls every offset, size and value. Registers are 32-bit and aligned: any other access below the
 * configuration space reads 0 and writes nothing (§4.2.2.2). Queue registers count only between FEATURES_OK and
 * DRIVER_OK. A broken queue sets DEVICE_NEEDS_RESET and stops the device; the VM lives on.
 *
 * INTERRUPT_STATUS and INTERRUPT_ACK are not here: they are shared words that each vCPU reads and clears by itself
 * (`InterruptStatus`), as the guest touches them for every interrupt.
 *
 * @module
 */

import type { BusDevice } from "../bus/bus.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import * as abi from "./abi.ts";
import { QueueError } from "./descriptor_chain.ts";
import type { VirtioDevice } from "./device.ts";
import { DeviceQueue } from "./device_queue.ts";
import { statusStep } from "./device_status.ts";
import type { InterruptStatus } from "./interrupt_status.ts";
import { QueueSetup } from "./queue_setup.ts";
import { SplitQueue } from "./split_queue.ts";

/** "virt", little-endian (§4.2.2) */
const MAGIC = 0x74726976;
const VERSION = 2;
/** "PDCK", any value is allowed */
const VENDOR = 0x4b43_4450;

const TRANSPORT_FEATURES = abi.VIRTIO_F_VERSION_1 | abi.VIRTIO_RING_F_INDIRECT_DESC |
  abi.VIRTIO_RING_F_EVENT_IDX;

/** The registers of one virtio device. */
export class MmioTransport implements BusDevice {
  readonly device: VirtioDevice;
  readonly #memory: GuestMemory;
  readonly #interrupt: InterruptStatus;
  readonly #onWorkLeft: (queueIndex: number) => void;
  /** the driver's bits of the status register */
  #status = 0;
  #needsReset = false;
  #deviceFeaturesSel = 0;
  #driverFeaturesSel = 0;
  #driverFeatures = 0n;
  #queueSel = 0;
  #setups: QueueSetup[];
  #configGeneration = 0;
  /** times that the guest did something the device had to refuse */
  refusals = 0;

  /** `onWorkLeft`: {@linkcode notify} is to be called again for this queue, but not before other devices had their turn */
  constructor(
    device: VirtioDevice,
    memory: GuestMemory,
    interrupt: InterruptStatus,
    onWorkLeft: (queueIndex: number) => void,
  ) {
    this.device = device;
    this.#memory = memory;
    this.#interrupt = interrupt;
    this.#onWorkLeft = onWorkLeft;
    this.#setups = device.queueSizes.map(() => new QueueSetup());
  }

  get #features(): bigint {
    return this.device.features | TRANSPORT_FEATURES;
  }

  get #active(): boolean {
    return (this.#status & abi.VIRTIO_CONFIG_S_DRIVER_OK) !== 0 && !this.#needsReset;
  }

  read(offset: number, size: number): number {
    if (offset >= abi.VIRTIO_MMIO_CONFIG) return this.#readConfig(offset - abi.VIRTIO_MMIO_CONFIG, size);
    if (size !== 4) return 0;
    switch (offset) {
      case abi.VIRTIO_MMIO_MAGIC_VALUE:
        return MAGIC;
      case abi.VIRTIO_MMIO_VERSION:
        return VERSION;
      case abi.VIRTIO_MMIO_DEVICE_ID:
        return this.device.deviceId;
      case abi.VIRTIO_MMIO_VENDOR_ID:
        return VENDOR;
      case abi.VIRTIO_MMIO_DEVICE_FEATURES:
        return word(this.#features, this.#deviceFeaturesSel);
      case abi.VIRTIO_MMIO_QUEUE_NUM_MAX:
        return this.device.queueSizes[this.#queueSel] ?? 0;
      case abi.VIRTIO_MMIO_QUEUE_READY:
        return this.#setups[this.#queueSel]?.ready ? 1 : 0;
      case abi.VIRTIO_MMIO_STATUS:
        return this.#status | (this.#needsReset ? abi.VIRTIO_CONFIG_S_NEEDS_RESET : 0);
      case abi.VIRTIO_MMIO_CONFIG_GENERATION:
        return this.#configGeneration;
      // No shared memory regions: their length reads as -1 (§4.2.2.1)
      case abi.VIRTIO_MMIO_SHM_LEN_LOW:
      case abi.VIRTIO_MMIO_SHM_LEN_HIGH:
        return 0xffff_ffff;
      default:
        return 0;
    }
  }

  write(offset: number, size: number, value: number): void {
    // The only configuration field that a driver may write is the balloon's count of its pages: nobody reads it.
    if (offset >= abi.VIRTIO_MMIO_CONFIG || size !== 4) return this.#refuse();
    switch (offset) {
      case abi.VIRTIO_MMIO_DEVICE_FEATURES_SEL:
        this.#deviceFeaturesSel = value;
        return;
      case abi.VIRTIO_MMIO_DRIVER_FEATURES_SEL:
        this.#driverFeaturesSel = value;
        return;
      case abi.VIRTIO_MMIO_DRIVER_FEATURES:
        return this.#writeDriverFeatures(value);
      case abi.VIRTIO_MMIO_QUEUE_SEL:
        this.#queueSel = value;
        return;
      case abi.VIRTIO_MMIO_QUEUE_NOTIFY:
        // Arrives here only where the ioeventfd does not match: a queue that does not exist.
        this.notify(value);
        return;
      case abi.VIRTIO_MMIO_STATUS:
        return this.#writeStatus(value);
      default:
        return this.#writeQueue(offset, value);
    }
  }

  /** The driver notified a queue. */
  notify(queueIndex: number): void {
    if (!this.#active || queueIndex >= this.#setups.length) return;
    if (this.guard(() => this.device.notify(queueIndex))) this.#onWorkLeft(queueIndex);
  }

  /**
   * Runs device code: a broken queue stops this device and nothing else, and there is no result then. Anything else is a
   * bug and is thrown.
   */
  guard<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof QueueError)) throw error;
      this.#fail();
      return undefined;
    }
  }

  /** §2.1.2: DEVICE_NEEDS_RESET, with a configuration interrupt if the driver is up */
  #fail(): void {
    this.refusals++;
    this.#needsReset = true;
    this.device.reset();
    if ((this.#status & abi.VIRTIO_CONFIG_S_DRIVER_OK) !== 0) {
      this.#interrupt.raise(abi.VIRTIO_MMIO_INT_CONFIG);
    }
  }

  #refuse(): void {
    this.refusals++;
  }

  #readConfig(offset: number, size: number): number {
    const config = this.device.config();
    let value = 0;
    for (let index = size - 1; index >= 0; index--) value = value * 256 + (config[offset + index] ?? 0);
    return value;
  }

  #writeDriverFeatures(value: number): void {
    // §3.1.1: features are written between DRIVER and FEATURES_OK
    const driver = abi.VIRTIO_CONFIG_S_ACKNOWLEDGE | abi.VIRTIO_CONFIG_S_DRIVER;
    if (this.#status !== driver || this.#driverFeaturesSel > 1) return this.#refuse();
    const shift = BigInt(this.#driverFeaturesSel) * 32n;
    const kept = this.#driverFeatures & ~(0xffff_ffffn << shift);
    this.#driverFeatures = kept | (BigInt(value >>> 0) << shift);
  }

  #writeStatus(value: number): void {
    const step = statusStep(this.#status, value & ~abi.VIRTIO_CONFIG_S_NEEDS_RESET);
    switch (step) {
      case "reset":
        return this.#reset();
      case "none":
        return this.#refuse();
      case "failed":
        this.#status |= abi.VIRTIO_CONFIG_S_FAILED;
        return;
      case "features_ok":
        // §2.2: a feature that was not offered, or the lack of VERSION_1, leaves FEATURES_OK unset
        if ((this.#driverFeatures & ~this.#features) !== 0n) return this.#refuse();
        if ((this.#driverFeatures & abi.VIRTIO_F_VERSION_1) === 0n) return this.#refuse();
        this.#status = value;
        return;
      case "driver_ok":
        this.#status = value;
        return this.#activate();
      default:
        this.#status = value;
    }
  }

  #writeQueue(offset: number, value: number): void {
    const setup = this.#setups[this.#queueSel];
    const configurable = (this.#status & abi.VIRTIO_CONFIG_S_FEATURES_OK) !== 0 &&
      (this.#status & abi.VIRTIO_CONFIG_S_DRIVER_OK) === 0;
    if (setup === undefined || !configurable) return this.#refuse();
    if (offset === abi.VIRTIO_MMIO_QUEUE_READY) return this.#writeReady(setup, value);
    // §4.2.2.2: the driver does not touch a queue that is ready
    if (setup.ready) return this.#refuse();
    if (!setup.write(offset, value)) this.#refuse();
  }

  #writeReady(setup: QueueSetup, value: number): void {
    if (value !== 1) {
      setup.ready = false;
      return;
    }
    setup.ready = this.guard(() => this.#buildQueue(this.#queueSel, setup)) !== undefined;
  }

  #buildQueue(queueIndex: number, setup: QueueSetup): SplitQueue {
    const layout = setup.layout((this.#driverFeatures & abi.VIRTIO_RING_F_EVENT_IDX) !== 0n);
    return new SplitQueue(this.#memory, layout, this.device.queueSizes[queueIndex] ?? 0);
  }

  #activate(): void {
    const interrupt = (): void => this.#interrupt.raise(abi.VIRTIO_MMIO_INT_VRING);
    this.guard(() => {
      this.device.activate({
        features: this.#driverFeatures,
        queues: this.#setups.map((setup, index) =>
          setup.ready ? new DeviceQueue(this.#buildQueue(index, setup), interrupt) : undefined
        ),
        configChanged: () => {
          this.#configGeneration = (this.#configGeneration + 1) >>> 0;
          this.#interrupt.raise(abi.VIRTIO_MMIO_INT_CONFIG);
        },
      });
    });
    // A driver may have filled its queues before: nobody would notify of that.
    this.#setups.forEach(({ ready }, queueIndex) => {
      if (ready) this.notify(queueIndex);
    });
  }

  #reset(): void {
    this.device.reset();
    this.#status = 0;
    this.#needsReset = false;
    this.#driverFeatures = 0n;
    this.#deviceFeaturesSel = 0;
    this.#driverFeaturesSel = 0;
    this.#queueSel = 0;
    this.#setups = this.device.queueSizes.map(() => new QueueSetup());
    this.#interrupt.clear();
  }
}

function word(features: bigint, select: number): number {
  return select > 1 ? 0 : Number((features >> (BigInt(select) * 32n)) & 0xffff_ffffn);
}
