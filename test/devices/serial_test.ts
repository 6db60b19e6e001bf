import { deepEqual, equal } from "node:assert/strict";
import { Serial } from "../../devices/serial.ts";

const IER = 1;
const IIR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;

function create(): { serial: Serial; irqs: () => number; wakes: () => number } {
  let irqs = 0;
  let wakes = 0;
  const shared = new SharedArrayBuffer(Serial.sharedBytes);
  const serial = new Serial(shared, { trigger: () => irqs++ }, () => wakes++);
  return { serial, irqs: () => irqs, wakes: () => wakes };
}

Deno.test("Serial passes on what the guest writes and wakes the host once", () => {
  const { serial, wakes } = create();
  for (const byte of new TextEncoder().encode("hello")) serial.write(0, 1, byte);
  equal(new TextDecoder().decode(serial.drain()), "hello");
  equal(wakes(), 1);
  serial.write(0, 1, 0x21);
  equal(wakes(), 2);
});

Deno.test("Serial gives a paste of 64 KiB to the guest whole, however slow it reads", () => {
  const { serial } = create();
  const pasted = Uint8Array.from({ length: 64 * 1024 }, (_, index) => index % 251);
  equal(serial.type(pasted), pasted.length);
  const read: number[] = [];
  while ((serial.read(LSR) & 1) !== 0) read.push(serial.read(0));
  deepEqual(Uint8Array.from(read), pasted);
});

Deno.test("Serial interrupts for input when enabled, until it is read", () => {
  const { serial, irqs } = create();
  serial.type(Uint8Array.of(1));
  equal(irqs(), 0);
  serial.write(IER, 1, 1);
  equal(irqs(), 1);
  equal(serial.read(IIR) & 0xf, 4);
  serial.read(0);
  equal(serial.read(IIR) & 0xf, 1);
  serial.type(Uint8Array.of(2));
  equal(irqs(), 2);
});

Deno.test("Serial interrupts for an empty transmitter, and reading IIR clears it", () => {
  const { serial, irqs } = create();
  serial.write(IER, 1, 2);
  equal(irqs(), 1);
  equal(serial.read(IIR) & 0xf, 2);
  equal(serial.read(IIR) & 0xf, 1);
  serial.write(0, 1, 65);
  equal(irqs(), 2);
});

Deno.test("Serial stops taking output when the host does not drain it, and goes on afterwards", () => {
  const { serial, irqs } = create();
  serial.write(IER, 1, 2);
  for (let count = 0; count < 64 * 1024; count++) serial.write(0, 1, 88);
  equal(serial.read(LSR) & 0x20, 0);
  serial.read(IIR);
  const before = irqs();
  equal(serial.drain().length, 64 * 1024);
  equal(serial.read(LSR) & 0x20, 0x20);
  equal(irqs(), before + 1);
});

Deno.test("Serial is found by a driver's probe: scratch, divisor, loop-back, FIFO", () => {
  const { serial } = create();
  serial.write(7, 1, 0x5a);
  equal(serial.read(7), 0x5a);
  serial.write(LCR, 1, 0x80);
  serial.write(0, 1, 1);
  equal(serial.read(0), 1);
  serial.write(LCR, 1, 3);
  serial.write(MCR, 1, 0x1a);
  equal(serial.read(MSR) & 0xf0, 0x90);
  serial.write(MCR, 1, 0);
  serial.write(2, 1, 1);
  equal(serial.read(IIR) & 0xc0, 0xc0);
});
