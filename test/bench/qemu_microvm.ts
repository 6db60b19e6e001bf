/**
 * QEMU's microvm as a peer: the same guest on the same KVM.
 *
 * @module
 */

import { CODE_ADDR, elfOf } from "../support/tiny_guest.ts";

/** A disk of QEMU's. */
export interface QemuDisk {
  readonly path: string;
  readonly format: "raw" | "qcow2";
  readonly readOnly?: boolean;
}

/** What to boot. */
export interface QemuOptions {
  readonly kernelPath: string;
  readonly initrdPath?: string | undefined;
  readonly cmdline?: string | undefined;
  readonly memoryMib: number;
  /** the machine as `-M microvm` gives it, with ACPI, or what can be switched off is (default `lean`) */
  readonly machine?: "plain" | "lean";
  readonly disks?: readonly QemuDisk[];
  /** TAP device, and whether the host's kernel moves its packets */
  readonly net?: { readonly tap: string; readonly vhost: boolean };
}

/** Registers of the first device that {@linkcode qemuArguments} gives: microvm's transports begin here. */
export const QEMU_SLOT = 0xfeb0_0000;

/** All that the host has, but a register that QEMU insists on and not every KVM takes. */
const CPU = "host,-arch-capabilities";
const MACHINE = "microvm,accel=kvm,memory-backend=ram";
/** The least of it: a firmware that only loads the kernel, no ACPI (devices by the command line), no old timers. */
const LEAN = "acpi=off,auto-kernel-cmdline=on,pit=off,pic=off,rtc=off";

/**
 * QEMU's arguments: no device that is not asked for, guest RAM in a memfd as ours is, console on stdin and stdout. Disks
 * get what makes them fastest with the host's page cache, which is how ours are opened: io_uring, and a thread of their
 * own.
 */
export function qemuArguments(options: QemuOptions): string[] {
  const { kernelPath, initrdPath, cmdline, memoryMib, machine = "lean", disks = [], net } = options;
  return [
    ...["-M", machine === "lean" ? `${MACHINE},${LEAN}` : MACHINE, "-cpu", CPU, "-m", `${memoryMib}`],
    ...["-object", `memory-backend-memfd,id=ram,size=${memoryMib}M`],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"],
    // Without it virtio-mmio is the one of before virtio 1.0
    ...["-global", "virtio-mmio.force-legacy=false"],
    ...["-kernel", kernelPath],
    ...(initrdPath === undefined ? [] : ["-initrd", initrdPath]),
    ...(cmdline === undefined ? [] : ["-append", cmdline]),
    ...(disks.length === 0 ? [] : ["-object", "iothread,id=disks"]),
    ...disks.flatMap(diskArguments),
    ...(net === undefined ? [] : [
      ...["-netdev", `tap,id=net,ifname=${net.tap},script=no,downscript=no,vhost=${onOff(net.vhost)}`],
      ...["-device", `virtio-net-device,netdev=net,mac=06:00:ac:1e:00:02,${slot(disks.length)}`],
    ]),
  ];
}

function onOff(on: boolean): string {
  return on ? "on" : "off";
}

function diskArguments({ path, format, readOnly = false }: QemuDisk, index: number): string[] {
  const how = `cache=writeback,aio=io_uring,discard=unmap,readonly=${onOff(readOnly)}`;
  return [
    ...["-drive", `id=disk${index},file=${path},format=${format},if=none,${how}`],
    ...["-device", `virtio-blk-device,drive=disk${index},iothread=disks,${slot(index)}`],
  ];
}

function slot(index: number): string {
  return `bus=virtio-mmio-bus.${index}`;
}

/** A monitor whose guest's console is its stdin and stdout, killed when disposed of. */
export class ConsoleProcess implements AsyncDisposable {
  readonly pid: number;
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #pump: Promise<void>;
  #console = "";
  #onText: () => void = () => {};
  #ended = false;

  constructor([program = "", ...args]: readonly string[]) {
    const pipes = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    this.#child = new Deno.Command(program, { args, ...pipes }).spawn();
    this.pid = this.#child.pid;
    this.#stdin = this.#child.stdin.getWriter();
    this.#pump = this.#read();
  }

  /** all that the guest printed so far */
  get console(): string {
    return this.#console;
  }

  /** Types at the guest's console. */
  async type(text: string): Promise<void> {
    await this.#stdin.write(new TextEncoder().encode(text));
  }

  /** Waits until the guest has printed `text`. */
  async untilConsole(text: string, timeoutMs = 120_000): Promise<void> {
    const late = setTimeout(() => this.#onText(), timeoutMs);
    const deadline = performance.now() + timeoutMs;
    try {
      while (!this.#console.includes(text)) {
        if (this.#ended) {
          const message = await new Response(this.#child.stderr).text();
          throw new PeerError(`The peer ended before it printed "${text}": ${this.#console}${message}`);
        }
        if (performance.now() >= deadline) {
          throw new PeerError(`No "${text}" within ${timeoutMs} ms: ${this.#console.slice(-4000)}`);
        }
        await new Promise<void>((resolve) => this.#onText = resolve);
      }
    } finally {
      clearTimeout(late);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#stdin.abort().catch(() => {/* it has ended: so has its stdin */});
    await this.#pump;
    await this.#child.status;
    if (!this.#child.stderr.locked) await this.#child.stderr.cancel();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      this.#console += decoder.decode(chunk, { stream: true });
      this.#onText();
    }
    this.#ended = true;
    this.#onText();
  }
}

/** A peer did not do what it was started for. */
export class PeerError extends Error {
  override readonly name = "PeerError";
}

/** PVH's note (xen/interface/elfnote.h): name "Xen", type 18, the 32-bit entry address. */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/**
 * An ELF file that both monitors boot: QEMU enters by the note, in 32-bit mode, so the code has to mean the same in both.
 */
export function pvhElfOf(code: Uint8Array): Uint8Array {
  const plain = elfOf(code);
  const headers = 64 + 2 * 56;
  const file = new Uint8Array(headers + 24 + code.byteLength);
  const view = new DataView(file.buffer);
  file.set(plain.subarray(0, 120));
  file.set(code, headers + 24);
  view.setUint16(56, 2, true); // program headers
  view.setBigUint64(72, BigInt(headers + 24), true); // where the code is
  view.setUint32(120, 4, true); // PT_NOTE
  view.setBigUint64(128, BigInt(headers), true);
  view.setBigUint64(152, 24n, true);
  view.setBigUint64(160, 24n, true);
  view.setBigUint64(168, 4n, true);
  view.setUint32(headers, 4, true); // length of the name
  view.setUint32(headers + 4, 8, true); // length of the value
  view.setUint32(headers + 8, XEN_ELFNOTE_PHYS32_ENTRY, true);
  file.set([0x58, 0x65, 0x6e, 0], headers + 12);
  view.setBigUint64(headers + 16, BigInt(CODE_ADDR), true);
  return file;
}
