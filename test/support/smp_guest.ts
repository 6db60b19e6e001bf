/**
 * A guest of a few instructions that uses all of its CPUs: the first starts the others as firmware and kernels do (INIT
 * and SIPI through the local APIC), then each prints its letter when it is its turn, one after the other, for ever. A CPU
 * finds its letter by its APIC id, so the order of the output says that each CPU runs, and which it takes itself for.
 *
 * @module
 */

import { asm, CODE_ADDR } from "./tiny_guest.ts";

const SERIAL = 0x3f8;
const POWER = 0x300;
const LOCAL_APIC = 0xfee0_0000;
/** local APIC: spurious interrupt vector with the enable bit, interrupt command (Intel SDM vol. 3, 11.6 and 11.9) */
const SVR = LOCAL_APIC + 0xf0;
const ICR_LOW = LOCAL_APIC + 0x300;
const ENABLED = 0x1ff;
/** to all but the sender, level assert: INIT, and start-up at page 1 */
const INIT_OTHERS = 0xc_4500;
const START_OTHERS = 0xc_4601;
/** page 1: where the other CPUs begin, in real mode; behind it the word that says whose turn it is */
const START_ADDR = 0x1000;
const TURN = [0x00, 0x20];
const LETTER_A = 0x41;
/** distance of the other CPUs' code from the first one's */
const OTHERS_OFFSET = 256;

/** Letters that a round of `cpus` CPUs prints. */
export function roundOf(cpus: number): string {
  return Array.from({ length: cpus }, (_, index) => String.fromCharCode(LETTER_A + index)).join("");
}

/** The guest's code; with `rounds` the first CPU powers off after so many (at most 255). */
export function smpGuest(cpus: number, rounds?: number): Uint8Array {
  const others = otherCpus(cpus);
  const first = firstCpu(cpus, others.length, rounds);
  const code = new Uint8Array(OTHERS_OFFSET + others.length);
  code.set(first);
  code.set(others, OTHERS_OFFSET);
  return code;
}

/** 64-bit code. */
function firstCpu(cpus: number, othersBytes: number, rounds: number | undefined): number[] {
  const setUp = [
    ...[0xbe, ...u32(CODE_ADDR + OTHERS_OFFSET)], // mov esi, the others' code
    ...[0xbf, ...u32(START_ADDR)], // mov edi, START_ADDR
    ...[0xb9, ...u32(othersBytes)], // mov ecx, othersBytes
    ...[0xf3, 0xa4], // rep movsb
    ...asm.store(SVR, ENABLED, 4),
    ...asm.store(ICR_LOW, INIT_OTHERS, 4),
    ...asm.store(ICR_LOW, START_OTHERS, 4),
    ...[0xbe, ...u32(rounds ?? 0)], // mov esi, rounds
  ];
  const wait = [
    ...[0xf3, 0x90], // 1: pause
    ...[0x66, 0x83, 0x3c, 0x25, ...TURN, 0, 0, 0], // cmp word [TURN], 0
    ...[0x75, 0xf3], // jne 1
  ];
  const countDown = rounds === undefined ? [] : [
    ...[0xff, 0xce], // dec esi
    ...[0x79, 8], // jns over the power-off
    ...asm.outByte(POWER, 1),
  ];
  const turn = [
    ...wait,
    ...countDown,
    ...asm.outByte(SERIAL, LETTER_A),
    ...[0x66, 0xc7, 0x04, 0x25, ...TURN, 0, 0, cpus > 1 ? 1 : 0, 0], // mov word [TURN], 1
  ];
  const code = [...setUp, ...turn, 0xeb, 256 - turn.length - 2]; // jmp 1
  if (code.length > OTHERS_OFFSET) throw new RangeError("The first CPU's code is too long");
  return code;
}

/** 16-bit code, at START_ADDR. */
function otherCpus(cpus: number): number[] {
  const turn = [
    ...[0xf3, 0x90], // 1: pause
    ...[0x39, 0x1e, ...TURN], // cmp [TURN], bx
    ...[0x75, 0xf8], // jne 1
    ...[0x88, 0xd8, 0x04, LETTER_A, 0xee], // mov al, bl; add al, "A"; out dx, al
    ...[0x89, 0xd9, 0x41], // mov cx, bx; inc cx
    ...[0x83, 0xf9, cpus, 0x72, 0x02], // cmp cx, cpus; jb 2
    ...[0x31, 0xc9], // xor cx, cx
    ...[0x89, 0x0e, ...TURN], // 2: mov [TURN], cx
  ];
  return [
    ...[0x31, 0xc0, 0x8e, 0xd8], // xor ax, ax; mov ds, ax
    ...[0x66, 0xb8, 1, 0, 0, 0, 0x0f, 0xa2], // mov eax, 1; cpuid
    ...[0x66, 0xc1, 0xeb, 24], // shr ebx, 24: the APIC id
    ...[0xba, SERIAL & 0xff, SERIAL >> 8], // mov dx, SERIAL
    ...turn,
    ...[0xeb, 256 - turn.length - 2], // jmp 1
  ];
}

function u32(value: number): number[] {
  return [...new Uint8Array(Uint32Array.of(value).buffer)];
}
