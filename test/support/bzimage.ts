/**
 * Kernel files in the form of the Linux x86 boot protocol, made from nothing.
 *
 * @module
 */

/** A bzImage of 1 KiB of set-up and `kernel` behind it. */
export function bzImageOf(
  kernel: Uint8Array,
  { version = 0x20f, xloadflags = 1, initSize = 0x1000 } = {},
): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(1024 + kernel.byteLength);
  const view = new DataView(file.buffer);
  view.setUint8(0x1f1, 1);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint8(0x201, 0x6a);
  view.setUint32(0x202, 0x53726448, true);
  view.setUint16(0x206, version, true);
  view.setUint8(0x211, 1);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint16(0x236, xloadflags, true);
  view.setUint32(0x260, initSize, true);
  file.set(kernel, 1024);
  return file;
}
