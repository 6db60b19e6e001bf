/**
 * The list of a machine's virtio devices: which there are, in which order, and what is behind each.
 *
 * @module
 */

import { RateLimiter } from "../../devices/rate_limiter.ts";
import { VirtioBalloon } from "../../devices/virtio_balloon.ts";
import { VirtioBlk } from "../../devices/virtio_blk.ts";
import { type ConsoleBackend, VirtioConsole } from "../../devices/virtio_console.ts";
import { NET_HEADER_BYTES } from "../../devices/net_features.ts";
import { VirtioNet } from "../../devices/virtio_net.ts";
import { VirtioRng } from "../../devices/virtio_rng.ts";
import { VirtioVsock } from "../../devices/virtio_vsock.ts";
import type { IoUring } from "../ffi/io_uring.ts";
import type { Iovec } from "../ffi/iovec.ts";
import { EPOLL, type Poller } from "../ffi/poller.ts";
import { DiskQueue } from "../host/disk_queue.ts";
import { openDisk } from "../host/open_disk.ts";
import { RamReleaser } from "./ram_releaser.ts";
import { RandomSource } from "../host/random.ts";
import { Tap } from "../host/tap.ts";
import { VsockSocket, type VsockTarget } from "../host/vsock_socket.ts";
import type { GuestMemory } from "../memory/guest_memory.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { parseMac } from "./config.ts";
import type { DiskConfig, NetConfig, VmConfig } from "../vmm/protocol.ts";

/** Locally administered, and the same for every guest: each has a network of its own. */
const DEFAULT_MAC = "06:00:ac:1e:00:02";

/** Queues of a disk, pairs of them of a network interface: one a vCPU up to here. One thread serves them all. */
const MAX_QUEUES = 16;

/** What the devices are built with. */
export interface DeviceContext {
  readonly memory: GuestMemory;
  /** where the buffer that `memory` is in begins */
  readonly ramAddr: bigint;
  readonly iovec: Iovec;
  /** of the virtio console, if there is one */
  readonly terminal: ConsoleBackend | undefined;
  /** where the kernel has none, disks are served one request at a time */
  readonly ring: IoUring | undefined;
  readonly poller: Poller;
  /** owns what the backends opened */
  readonly resources: DisposableStack;
  /** runs code of a device that the host's side started; a broken queue stops only that device */
  readonly guard: <T>(device: VirtioDevice, work: () => T) => T | undefined;
  /** `work` is done whenever main may have changed something, and again while it returns true */
  readonly onKick: (work: () => boolean) => void;
  /** of the network interface */
  readonly link: { readonly up: boolean };
  /** told of what the guest tried to reach by vsock in vain */
  readonly onVsockRefused: (target: VsockTarget) => void;
  readonly onHostError: (error: unknown) => void;
}

/** Builds the devices. Disks come first, so that their names in the guest do not depend on the others. */
export function createDevices(
  config: Pick<VmConfig, "disks" | "net" | "vsock" | "balloon" | "hugePages" | "cpus">,
  context: DeviceContext,
): VirtioDevice[] {
  const { iovec, poller, resources, guard, terminal } = context;
  const devices: VirtioDevice[] = [...createDisks(config, context)];
  devices.push(new VirtioRng(new RandomSource()));
  if (config.net !== undefined) devices.push(createNet(config.net, config.cpus, context));
  if (config.vsock !== undefined) {
    const socket = resources.use(
      new VsockSocket(config.vsock.socketPath, {
        iovec,
        poller,
        guard: (work) => guard(vsock, work),
        onRefused: context.onVsockRefused,
      }),
    );
    const vsock = new VirtioVsock(socket, config.vsock.cid);
    socket.attach(vsock);
    devices.push(vsock);
  }
  if (terminal !== undefined) devices.push(createConsole(terminal, context));
  if (config.balloon) {
    const ram = { hostAddr: context.ramAddr, shared: !config.hugePages };
    devices.push(new VirtioBalloon(new RamReleaser(context.memory, ram)));
  }
  return devices;
}

function createDisks({ disks, cpus }: Pick<VmConfig, "disks" | "cpus">, context: DeviceContext): VirtioBlk[] {
  const { ring, poller, guard } = context;
  const devices = disks.map((disk, index) => createDisk(disk, `disk${index}`, cpus, context));
  if (ring !== undefined) {
    poller.add(ring.eventFd, EPOLL.IN, () => ring.acknowledge());
    poller.atRoundEnd(() => {
      ring.serve();
      for (const device of devices) guard(device, () => device.flushCompleted());
    });
  }
  return devices;
}

function createDisk(disk: DiskConfig, name: string, cpus: number, context: DeviceContext): VirtioBlk {
  const { iovec, ring, poller, resources, guard, onHostError } = context;
  const image = resources.use(openDisk({ ...disk, readOnly: disk.readOnly ?? false }, iovec));
  const device = new VirtioBlk(new DiskQueue(image, ring), {
    serial: disk.serial ?? name,
    queueCount: Math.min(cpus, MAX_QUEUES),
    limiter: disk.rateLimit && new RateLimiter(disk.rateLimit),
    onHostError,
    wakeIn: (delayMs) => poller.after(delayMs, () => guard(device, () => device.resume())),
  });
  return device;
}

function createNet(config: NetConfig, cpus: number, context: DeviceContext): VirtioNet {
  const { iovec, poller, resources, guard, onKick, link } = context;
  const tap = new Tap(config.tap, {
    headerBytes: NET_HEADER_BYTES,
    queueCount: Math.min(cpus, MAX_QUEUES),
    iovec,
    poller,
    onPackets: (queueIndex) => guard(net, () => net.receivePackets(queueIndex)),
  });
  const { mac = DEFAULT_MAC, mtu, rateLimit } = config;
  const net = new VirtioNet(resources.use(tap), {
    mac: parseMac(mac),
    mtu,
    limiter: rateLimit && new RateLimiter(rateLimit),
    wakeIn: (delayMs) => poller.after(delayMs, () => guard(net, () => net.resume())),
  });
  onKick(() => {
    guard(net, () => net.setLink(link.up));
    return false;
  });
  return net;
}

function createConsole(terminal: ConsoleBackend, { guard, onKick }: DeviceContext): VirtioConsole {
  const device = new VirtioConsole(terminal);
  onKick(() => guard(device, () => device.pump()) ?? false);
  return device;
}
