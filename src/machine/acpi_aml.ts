/**
 * The few terms of ACPI Machine Language that our device tree needs (ACPI 6.5 §20.2, "AML Grammar Definition").
 *
 * @module
 */

// Opcodes (§20.3)
const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const EXT_OP_PREFIX = 0x5b;
const DEVICE_OP = 0x82;

/** Encoded AML. */
export type Aml = readonly number[];

/** Bytes of `value`, least significant first. */
function littleEndian(value: number, byteCount: number): number[] {
  return Array.from({ length: byteCount }, (_, index) => Math.floor(value / 2 ** (8 * index)) & 0xff);
}

/** A name in the scope where it stands: four characters, short ones filled with `_`. */
function nameSegment(name: string): number[] {
  if (!/^[A-Z_][A-Z0-9_]{3}$/.test(name)) {
    throw new RangeError(`Cannot use "${name}" as an ACPI name: it has four characters of A-Z, 0-9 and _`);
  }
  return [...new TextEncoder().encode(name)];
}

/**
 * A term's content with its length before it, which counts itself (§20.2.4): one byte up to 63; else the first byte
 * has the low four bits and how many bytes follow.
 */
function withLength(content: Aml): number[] {
  if (content.length + 1 <= 0x3f) return [content.length + 1, ...content];
  for (let following = 1; following <= 3; following++) {
    const length = content.length + 1 + following;
    if (length >= 2 ** (4 + 8 * following)) continue;
    return [(following << 6) | (length & 0xf), ...littleEndian(length >>> 4, following), ...content];
  }
  throw new RangeError(`Cannot encode an AML term of ${content.length} bytes`);
}

/** A whole number below 2^32, in as few bytes as it needs. */
export function integer(value: number): Aml {
  if (value <= 1) return [value]; // ZeroOp, OneOp
  if (value <= 0xff) return [BYTE_PREFIX, value];
  if (value <= 0xffff) return [WORD_PREFIX, ...littleEndian(value, 2)];
  return [DWORD_PREFIX, ...littleEndian(value, 4)];
}

/** A string of ASCII. */
export function text(value: string): Aml {
  return [STRING_PREFIX, ...new TextEncoder().encode(value), 0];
}

/** A plug-and-play id such as `PNP0501`, packed into an integer (§19.3.4): three letters, four hex digits. */
export function eisaId(id: string): Aml {
  const [a = 0, b = 0, c = 0] = new TextEncoder().encode(id.slice(0, 3)).map((letter) => letter - 0x40);
  const letters = (a << 10) | (b << 5) | c;
  const product = Number.parseInt(id.slice(3), 16);
  // It is a big-endian number that is stored as it reads.
  return [DWORD_PREFIX, letters >>> 8, letters & 0xff, product >>> 8, product & 0xff];
}

/** `Package () { … }` */
export function packageOf(...elements: readonly Aml[]): Aml {
  return [PACKAGE_OP, ...withLength([elements.length, ...elements.flat()])];
}

/** `Name (NAME, value)` */
export function named(name: string, value: Aml): Aml {
  return [NAME_OP, ...nameSegment(name), ...value];
}

/** `Scope (NAME) { … }` */
export function scope(name: string, ...terms: readonly Aml[]): Aml {
  return [SCOPE_OP, ...withLength([...nameSegment(name), ...terms.flat()])];
}

/** `Device (NAME) { … }` */
export function device(name: string, ...terms: readonly Aml[]): Aml {
  return [EXT_OP_PREFIX, DEVICE_OP, ...withLength([...nameSegment(name), ...terms.flat()])];
}

// --- Resources of a device (§6.4)

/** `ResourceTemplate () { … }`: a buffer that ends with an end tag without a checksum. */
export function resources(...descriptors: readonly Aml[]): Aml {
  const bytes = [...descriptors.flat(), 0x79, 0];
  return [BUFFER_OP, ...withLength([...integer(bytes.length), ...bytes])];
}

/** `IO (Decode16, port, port, 0, byteCount)` */
export function ioPorts(port: number, byteCount: number): Aml {
  return [0x47, 1, ...littleEndian(port, 2), ...littleEndian(port, 2), 0, byteCount];
}

/** `IRQNoFlags () { irq }`: one of the ISA bus's, edge-triggered and active high */
export function isaIrq(irq: number): Aml {
  return [0x22, ...littleEndian(1 << irq, 2)];
}

/** `Memory32Fixed (ReadWrite, guestAddr, byteCount)` */
export function fixedMemory(guestAddr: number, byteCount: number): Aml {
  return [0x86, 9, 0, 1, ...littleEndian(guestAddr, 4), ...littleEndian(byteCount, 4)];
}

/** `Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { gsi }` */
export function edgeInterrupt(gsi: number): Aml {
  return [0x89, 6, 0, 0b0011, 1, ...littleEndian(gsi, 4)];
}
