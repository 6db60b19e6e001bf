import { deepEqual, equal } from "node:assert/strict";
import { type ConsoleBackend, VirtioConsole } from "../../devices/virtio_console.ts";
import { ConsoleTerminal } from "../../src/machine/console_terminal.ts";
import { FakeDriver } from "../support/fake_driver.ts";

class FakeTerminal implements ConsoleBackend {
  size = { cols: 80, rows: 24 };
  input: number[] = [];
  shown: number[] = [];
  room = Infinity;
  takeInput(maxBytes: number): Uint8Array {
    return Uint8Array.from(this.input.splice(0, maxBytes));
  }
  output(bytes: Uint8Array): number {
    const taken = bytes.subarray(0, this.room);
    this.room -= taken.byteLength;
    this.shown.push(...taken);
    return taken.byteLength;
  }
}

function create(): {
  terminal: FakeTerminal;
  device: VirtioConsole;
  toGuest: FakeDriver;
  toHost: FakeDriver;
  changes: () => number;
} {
  const terminal = new FakeTerminal();
  const device = new VirtioConsole(terminal);
  const [toGuest, toHost] = [new FakeDriver(), new FakeDriver()];
  let changes = 0;
  const queues = [toGuest.deviceQueue, toHost.deviceQueue];
  device.activate({ features: 1n, queues, configChanged: () => changes++ });
  return { terminal, device, toGuest, toHost, changes: () => changes };
}

Deno.test("VirtioConsole shows what the guest writes, and keeps what there is no room for", () => {
  const { terminal, device, toHost } = create();
  terminal.room = 5;
  toHost.send([Uint8Array.of(1, 2, 3)], []);
  toHost.send([Uint8Array.of(4, 5), Uint8Array.of(6, 7)], []);
  toHost.send([Uint8Array.of(8)], []);
  device.notify(1);
  deepEqual(terminal.shown, [1, 2, 3, 4, 5]);
  equal(toHost.used().length, 1);
  terminal.room = Infinity;
  device.pump();
  deepEqual(terminal.shown, [1, 2, 3, 4, 5, 6, 7, 8]);
  equal(toHost.used().length, 3);
});

Deno.test("VirtioConsole gives what was typed to the guest as it has buffers, and loses nothing", () => {
  const { terminal, device, toGuest } = create();
  terminal.input = [...Array(10).keys()];
  device.pump();
  equal(terminal.input.length, 10);
  const { writableAddrs } = toGuest.send([], [4]);
  device.notify(0);
  deepEqual([...toGuest.memory.copyOut(writableAddrs[0] ?? 0, 4)], [0, 1, 2, 3]);
  toGuest.send([], [100]);
  toGuest.send([], [100]);
  device.notify(0);
  deepEqual(toGuest.used().map(({ writtenBytes }) => writtenBytes), [4, 6]);
  terminal.input = [9];
  device.pump();
  equal(toGuest.used().length, 3);
});

Deno.test("VirtioConsole tells the guest of another window size, once", () => {
  const { terminal, device, changes } = create();
  deepEqual([...device.config().subarray(0, 4)], [80, 0, 24, 0]);
  terminal.size = { cols: 200, rows: 50 };
  device.pump();
  device.pump();
  deepEqual([...device.config().subarray(0, 4)], [200, 0, 50, 0]);
  equal(changes(), 1);
});

Deno.test("VirtioConsole forgets a driver's buffers with its reset", () => {
  const { terminal, device, toHost } = create();
  terminal.room = 0;
  toHost.send([Uint8Array.of(1)], []);
  device.notify(1);
  device.reset();
  terminal.room = Infinity;
  device.pump();
  deepEqual([terminal.shown, toHost.used()], [[], []]);
});

Deno.test("ConsoleTerminal carries 64 KiB typed at once, and rings once for output that waits", () => {
  const shared = new SharedArrayBuffer(ConsoleTerminal.sharedBytes);
  let toDevice = 0;
  let toMain = 0;
  const main = new ConsoleTerminal(shared, () => toDevice++);
  const device = new ConsoleTerminal(shared, () => toMain++);
  const paste = new Uint8Array(65_536).map((_, index) => index * 7);
  equal(main.type(paste), paste.byteLength);
  const got: number[] = [];
  for (let part = device.takeInput(1000); part.byteLength > 0; part = device.takeInput(1000)) {
    got.push(...part);
  }
  deepEqual(Uint8Array.from(got), paste);
  device.output(Uint8Array.of(1, 2));
  device.output(Uint8Array.of(3));
  equal(toMain, 1);
  deepEqual([...main.drain()], [1, 2, 3]);
  device.output(Uint8Array.of(4));
  equal(toMain, 2);
  main.resize(132, 43);
  deepEqual(device.size, { cols: 132, rows: 43 });
  equal(toDevice, 3);
});
