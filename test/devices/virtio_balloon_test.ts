import { deepEqual, equal } from "node:assert/strict";
import { type BalloonBackend, VirtioBalloon } from "../../devices/virtio_balloon.ts";
import { FakeDriver } from "../support/fake_driver.ts";
import { Random } from "../support/random.ts";

class FakeRam implements BalloonBackend {
  readonly released: (readonly [number, number])[] = [];
  releaseRange(guestAddr: number, sizeBytes: number): void {
    this.released.push([guestAddr, sizeBytes]);
  }
  releaseView({ byteOffset, byteLength }: Uint8Array<ArrayBuffer>): void {
    this.released.push([byteOffset, byteLength]);
  }
}

function create(): { ram: FakeRam; balloon: VirtioBalloon; drivers: FakeDriver[] } {
  const ram = new FakeRam();
  const balloon = new VirtioBalloon(ram);
  const drivers = [new FakeDriver(), new FakeDriver(), new FakeDriver()];
  const queues = drivers.map(({ deviceQueue }) => deviceQueue);
  balloon.activate({ features: 0n, queues, configChanged: () => {} });
  return { ram, balloon, drivers };
}

Deno.test("VirtioBalloon releases the pages that the guest reports as free", () => {
  const { ram, balloon, drivers } = create();
  const { writableAddrs } = drivers[2]?.send([], [0x2000, 0x3000]) ?? { writableAddrs: [] };
  balloon.notify(2);
  deepEqual(ram.released, [[writableAddrs[0], 0x2000], [writableAddrs[1], 0x3000]]);
  deepEqual(drivers[2]?.used(), [{ head: 0, writtenBytes: 0 }]);
});

Deno.test("VirtioBalloon releases the pages that the guest inflates with, and asks for none", () => {
  const { ram, balloon, drivers } = create();
  drivers[0]?.send([new Uint8Array(Uint32Array.of(5, 9, 0xffff_ffff).buffer)], []);
  balloon.notify(0);
  deepEqual(ram.released, [[5 * 4096, 4096], [9 * 4096, 4096], [0xffff_ffff * 4096, 4096]]);
  drivers[1]?.send([new Uint8Array(Uint32Array.of(5).buffer)], []);
  balloon.notify(1);
  equal(ram.released.length, 3);
  equal(drivers[1]?.used().length, 1);
  deepEqual(balloon.config(), new Uint8Array(16));
});

Deno.test("VirtioBalloon does a bounded amount of work for a request, and gives every chain back", () => {
  const { ram, balloon, drivers } = create();
  drivers[0]?.setDescriptor(0, { addr: 0x8000, len: 0x8000, flags: 1, next: 1 });
  drivers[0]?.setDescriptor(1, { addr: 0x8000, len: 0x8000, flags: 0 });
  drivers[0]?.offer(0);
  balloon.notify(0);
  equal(ram.released.length, 4096);
  const random = new Random(0xba11);
  for (let round = 0; round < 2000; round++) {
    const vm = create();
    const queue = random.below(3);
    const readable = random.below(2) === 0 ? [random.bytes(1 + random.below(50))] : [];
    const writable = Array.from({ length: 1 + random.below(3) }, () => 1 + random.below(5000));
    vm.drivers[queue]?.send(readable, writable);
    vm.balloon.notify(queue);
    equal(vm.drivers[queue]?.used().length, 1, `seed 0xba11 round ${round}`);
  }
});
