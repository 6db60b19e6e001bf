/**
 * Guests of a few instructions, as ELF kernels: they run on any KVM, whole or not.
 *
 * @module
 */

/** where the code is loaded and entered, in 64-bit mode with the first 4 GiB mapped */
export const CODE_ADDR = 0x10_0000;

/** An x86-64 ELF file with one segment at {@linkcode CODE_ADDR}. */
export function elfOf(code: Uint8Array): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(120 + code.byteLength);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setBigUint64(24, BigInt(CODE_ADDR), true);
  view.setBigUint64(32, 64n, true); // program headers
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true); // PT_LOAD
  view.setBigUint64(72, 120n, true);
  view.setBigUint64(88, BigInt(CODE_ADDR), true);
  view.setBigUint64(96, BigInt(code.byteLength), true);
  view.setBigUint64(104, BigInt(code.byteLength), true);
  file.set(code, 120);
  return file;
}

const u32 = (value: number): number[] => [...new Uint8Array(Uint32Array.of(value).buffer)];

/** Instructions, by what they do. */
export const asm = {
  /** mov edx, port; mov al, value; out dx, al */
  outByte: (port: number, value: number): number[] => [0xba, ...u32(port), 0xb0, value, 0xee],
  /** mov edx, port; in al, dx */
  inByte: (port: number): number[] => [0xba, ...u32(port), 0xec],
  /** the low byte of rax to a port: mov edx, port; out dx, al */
  outAl: (port: number): number[] => [0xba, ...u32(port), 0xee],
  /** mov esi, addr; mov ecx, count; mov edx, port; rep outsb */
  outString: (port: number, addr: number, count: number): number[] => [
    ...[0xbe, ...u32(addr)],
    ...[0xb9, ...u32(count)],
    ...[0xba, ...u32(port)],
    ...[0xf3, 0x6e],
  ],
  /** mov ebx, addr; mov eax, value; mov [rbx], eax|ax|al */
  store: (addr: number, value: number, size: 1 | 2 | 4): number[] => [
    ...[0xbb, ...u32(addr)],
    ...[0xb8, ...u32(value)],
    ...(size === 1 ? [0x88, 0x03] : size === 2 ? [0x66, 0x89, 0x03] : [0x89, 0x03]),
  ],
  /** mov ebx, addr; mov eax, value; mov ecx, eax; shl rcx, 32; or rax, rcx; mov [rbx], rax */
  storeTwice: (addr: number, value: number): number[] => [
    ...[0xbb, ...u32(addr)],
    ...[0xb8, ...u32(value)],
    ...[0x89, 0xc1, 0x48, 0xc1, 0xe1, 0x20, 0x48, 0x09, 0xc8, 0x48, 0x89, 0x03],
  ],
  /** mov ebx, addr; mov eax, [rbx] */
  load: (addr: number): number[] => [0xbb, ...u32(addr), 0x8b, 0x03],
  /** mov ebx, addr; inc word [rbx] */
  increment16: (addr: number): number[] => [0xbb, ...u32(addr), 0x66, 0xff, 0x03],
  /** the instructions again and again: jmp back over them */
  forever: (body: readonly number[]): number[] => [...body, 0xe9, ...u32(-(body.length + 5) >>> 0)],
  /** jmp to itself */
  spin: [0xeb, 0xfe],
  hlt: [0xf4],
} as const;
