/**
 * Virtio devices with a host's side that checks what they do to it, and can do things by itself.
 *
 * @module
 */

import { RateLimiter } from "../../devices/rate_limiter.ts";
import { VirtioBalloon } from "../../devices/virtio_balloon.ts";
import { type BlockBackend, VirtioBlk } from "../../devices/virtio_blk.ts";
import { VirtioConsole } from "../../devices/virtio_console.ts";
import type { PacketQueue } from "../../devices/net_queue_pair.ts";
import { VirtioNet } from "../../devices/virtio_net.ts";
import { VirtioRng } from "../../devices/virtio_rng.ts";
import { VirtioVsock } from "../../devices/virtio_vsock.ts";
import type { HostStream } from "../../devices/vsock_connection.ts";
import type { VirtioDevice } from "../../src/virtio/device.ts";

/** A device, and what the host's side can do: numbered, with an argument. */
export interface VirtioWorld {
  readonly device: VirtioDevice;
  hostEvent(number: number, argument: number): void;
  /** must hold once the program is over and the device was reset */
  check?(): void;
}

class Disk implements BlockBackend {
  readonly sizeBytes = 64 * 512;
  readonly unitBytes = 4096;
  readonly readOnly = false;
  readonly #bytes = new Uint8Array(64 * 512);
  readonly waiting: (() => void)[] = [];
  slow = false;

  read(views: Uint8Array[], diskOffset: number, done: (error?: unknown) => void): void {
    this.#begin(() => {
      for (const view of views) {
        view.set(this.#inside(diskOffset, view.byteLength));
        diskOffset += view.byteLength;
      }
      done();
    });
  }
  write(views: Uint8Array[], diskOffset: number, done: (error?: unknown) => void): void {
    this.#begin(() => {
      for (const view of views) {
        this.#inside(diskOffset, view.byteLength).set(view);
        diskOffset += view.byteLength;
      }
      done(diskOffset % 3 === 0 ? new RangeError("host failed") : undefined);
    });
  }
  flush(done: () => void): void {
    this.#begin(done);
  }
  writeZeroes(diskOffset: number, sizeBytes: number, _unmap: boolean, done: () => void): void {
    this.#begin(() => {
      this.#inside(diskOffset, sizeBytes).fill(0);
      done();
    });
  }
  finish(): void {
    while (this.waiting.length > 0) this.waiting.shift()?.();
  }
  #begin(work: () => void): void {
    if (this.slow) this.waiting.push(work);
    else work();
  }
  #inside(diskOffset: number, sizeBytes: number): Uint8Array {
    if (diskOffset < 0 || diskOffset + sizeBytes > this.sizeBytes) throw new Error("outside the disk");
    return this.#bytes.subarray(diskOffset, diskOffset + sizeBytes);
  }
}

function blkWorld(): VirtioWorld {
  const disk = new Disk();
  let now = 0;
  const limiter = new RateLimiter({ operationsPerSecond: 100, bytesPerSecond: 1e6 }, () => now);
  const device = new VirtioBlk(disk, {
    serial: "fuzz",
    queueCount: 2,
    limiter,
    onHostError: () => {},
    wakeIn: () => {},
  });
  return {
    device,
    hostEvent: (number, argument) => {
      if (number % 4 === 0) disk.slow = argument % 2 === 1;
      if (number % 4 === 1) disk.waiting.splice(argument % 8, 1)[0]?.();
      if (number % 4 === 2) now += argument % 1000;
      if (number % 4 === 3) device.resume();
      device.flushCompleted();
    },
    check: () => {
      if (disk.waiting.length > 0) throw new Error("requests outlive the reset");
    },
  };
}

/** One queue of packets of {@linkcode netWorld}. */
class Packets implements PacketQueue {
  readonly waiting: number[] = [];
  inUse = false;
  watched = false;

  receive(views: Uint8Array[]): number | undefined {
    if (!this.inUse) throw new Error("packets are read from a queue that is not in use");
    const sizeBytes = this.waiting.shift();
    if (sizeBytes === undefined) return undefined;
    let left = sizeBytes;
    for (const view of views) {
      view.fill(7, 0, Math.min(left, view.byteLength));
      left -= Math.min(left, view.byteLength);
    }
    return sizeBytes - left;
  }
  send(views: Uint8Array[]): void {
    if (!this.inUse) throw new Error("packets are sent by a queue that is not in use");
    void views.reduce((sum, view) => sum + view.byteLength, 0);
  }
  wantPackets(wanted: boolean): void {
    if (wanted && !this.inUse) throw new Error("a queue that is not in use is watched");
    this.watched = wanted;
  }
}

function netWorld(): VirtioWorld {
  const queues = [new Packets(), new Packets()];
  let refuses = false;
  const useQueues = (count: number): boolean => {
    if (count < 1 || count > queues.length) throw new Error(`${count} queues`);
    if (refuses && count > 1) return false;
    queues.forEach((queue, index) => {
      queue.inUse = index < count;
      if (!queue.inUse) queue.watched = false;
    });
    return true;
  };
  useQueues(1);
  const device = new VirtioNet({
    offloads: 0x1f,
    queues,
    setOffloads: (offloads) => {
      // What the kernel answers with EINVAL
      if (offloads !== 0 && (offloads & 1) === 0) throw new Error(`offloads ${offloads}`);
    },
    useQueues,
  }, { mac: new Uint8Array(6), mtu: 1500 });
  return {
    device,
    hostEvent: (number, argument) => {
      if (number % 4 === 0) queues[argument % 2]?.waiting.push(argument % 70_000);
      if (number % 4 === 1) device.setLink(argument % 2 === 0);
      if (number % 4 === 2) refuses = argument % 2 === 1;
      device.receivePackets(argument % 2);
    },
    check: () => {
      if (queues.some(({ watched }) => watched)) throw new Error("a queue is watched after the reset");
      if (queues[1]?.inUse) throw new Error("the second queue is in use after the reset");
    },
  };
}

class Stream implements HostStream {
  closes = 0;
  state = 0;
  read(views: Uint8Array[]): number | undefined {
    if (this.state % 3 === 0) return undefined;
    return this.state % 3 === 1 ? 0 : Math.min(5, views[0]?.byteLength ?? 0);
  }
  write(views: Uint8Array[]): number | undefined {
    if (this.state % 5 === 4) return undefined;
    return Math.min(this.state % 7, views.reduce((sum, view) => sum + view.byteLength, 0));
  }
  established(): void {}
  shutdownWrite(): void {}
  close(): void {
    this.closes++;
    if (this.closes > 1) throw new Error("a stream was closed twice");
  }
  watch(): void {}
}

function vsockWorld(): VirtioWorld {
  const streams: Stream[] = [];
  let listening = true;
  const device = new VirtioVsock({
    connect: () => {
      if (!listening) return undefined;
      const stream = new Stream();
      streams.push(stream);
      return stream;
    },
    refused: () => {},
    reset: () => {},
  }, 3);
  const open = (): number => streams.filter(({ closes }) => closes === 0).length;
  return {
    device,
    hostEvent: (number, argument) => {
      const stream = streams[argument % Math.max(1, streams.length)];
      if (number % 4 === 0) listening = argument % 2 === 0;
      if (number % 4 === 1 && stream !== undefined) stream.state = argument;
      if (number % 4 === 2) device.notify(argument % 3);
      if (open() > 4096) throw new Error(`${open()} streams are open`);
    },
    check: () => {
      if (open() > 0) throw new Error(`${open()} streams outlive the reset`);
    },
  };
}

/** Each device by the name of its target. */
export const VIRTIO_WORLDS: Readonly<Record<string, () => VirtioWorld>> = {
  blk: blkWorld,
  net: netWorld,
  vsock: vsockWorld,
  console: () => {
    let size = 1;
    let room = 100;
    const device = new VirtioConsole({
      get size() {
        return { cols: size, rows: size };
      },
      takeInput: (maxBytes) => new Uint8Array(Math.min(maxBytes, size % 50)),
      output: (bytes) => {
        const taken = Math.min(room, bytes.byteLength);
        room -= taken;
        return taken;
      },
    });
    return {
      device,
      hostEvent: (number, argument) => {
        if (number % 3 === 0) size = 1 + argument % 1000;
        if (number % 3 === 1) room = argument % 5000;
        device.pump();
      },
    };
  },
  rng: () => ({ device: new VirtioRng({ fill: (bytes) => void bytes.fill(1) }), hostEvent: () => {} }),
  balloon: () => ({
    device: new VirtioBalloon({ releaseRange: () => {}, releaseView: () => {} }),
    hostEvent: () => {},
  }),
};
