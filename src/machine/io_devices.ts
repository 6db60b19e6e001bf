/**
 * The list of a machine's virtio devices: which there are, in which order, and what is behind each.
 *
 * @module
 */

import { VirtioBlk } from "../../devices/virtio_blk.ts";
import { NET_HEADER_BYTES, VirtioNet } from "../../devices/virtio_net.ts";
import { VirtioRng } from "../../devices/virtio_rng.ts";
import { VirtioVsock } from "../../devices/virtio_vsock.ts";
import type { Iovec } from "../ffi/iovec.ts";
import type { Poller } from "../ffi/poller.ts";
import { openDisk } from "../host/open_disk.ts";
import { RandomSource } from "../host/random.ts";
import { Tap } from "../host/tap.ts";
import { VsockSocket } from "../host/vsock_socket.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { parseMac } from "./config.ts";
import type { VmConfig } from "../vmm/protocol.ts";

/** Locally administered, and the same for every guest: each has a network of its own. */
const DEFAULT_MAC = "06:00:ac:1e:00:02";

/** What the devices are built with. */
export interface DeviceContext {
  readonly iovec: Iovec;
  readonly poller: Poller;
  /** owns what the backends opened */
  readonly resources: DisposableStack;
  /** runs code of a device that the host's side started; a broken queue stops only that device */
  readonly guard: (device: VirtioDevice, work: () => void) => void;
  readonly onHostError: (error: unknown) => void;
}

/** Builds the devices. Disks come first, so that their names in the guest do not depend on the others. */
export function createDevices(
  config: Pick<VmConfig, "disks" | "net" | "vsock">,
  context: DeviceContext,
): VirtioDevice[] {
  const { iovec, poller, resources, guard, onHostError } = context;
  const devices: VirtioDevice[] = config.disks.map((disk, index) => {
    const backend = resources.use(openDisk({ ...disk, readOnly: disk.readOnly ?? false }, iovec));
    return new VirtioBlk(backend, `disk${index}`, onHostError);
  });
  devices.push(new VirtioRng(new RandomSource()));
  if (config.net !== undefined) {
    const onPackets = (): void => guard(net, () => void net.receivePackets());
    const tap = new Tap(config.net.tap, { headerBytes: NET_HEADER_BYTES, iovec, poller, onPackets });
    const net = new VirtioNet(resources.use(tap), parseMac(config.net.mac ?? DEFAULT_MAC));
    devices.push(net);
  }
  if (config.vsock !== undefined) {
    const socket = resources.use(
      new VsockSocket(config.vsock.socketPath, { iovec, poller, guard: (work) => guard(vsock, work) }),
    );
    const vsock = new VirtioVsock(socket, config.vsock.cid);
    socket.attach(vsock);
    devices.push(vsock);
  }
  return devices;
}
