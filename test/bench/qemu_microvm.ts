/**
 * QEMU's microvm as a peer: the same guest on the same KVM.
 *
 * @module
 */

import { CODE_ADDR, elfOf } from "../support/tiny_guest.ts";

/** What to boot. */
export interface QemuOptions {
  readonly kernelPath: string;
  readonly initrdPath?: string;
  readonly cmdline?: string;
  readonly memoryMib: number;
  readonly diskPath?: string;
}

/** All that the host has, but a register that QEMU insists on and not every KVM takes. */
const CPU = "host,-arch-capabilities";

/** QEMU's arguments: no device that is not asked for, guest RAM in a memfd as ours is, console on stdout. */
export function qemuArguments(options: QemuOptions): string[] {
  const { kernelPath, initrdPath, cmdline, memoryMib, diskPath } = options;
  return [
    ...["-M", "microvm,accel=kvm,memory-backend=ram", "-cpu", CPU, "-m", `${memoryMib}`],
    ...["-object", `memory-backend-memfd,id=ram,size=${memoryMib}M`],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"],
    ...["-kernel", kernelPath],
    ...(initrdPath === undefined ? [] : ["-initrd", initrdPath]),
    ...(cmdline === undefined ? [] : ["-append", cmdline]),
    ...(diskPath === undefined ? [] : [
      ...["-drive", `id=root,file=${diskPath},format=raw,if=none`],
      ...["-device", "virtio-blk-device,drive=root"],
    ]),
  ];
}

/** A monitor that prints its guest's console on stdout, killed when disposed of. */
export class ConsoleProcess implements AsyncDisposable {
  readonly pid: number;
  readonly #child: Deno.ChildProcess;
  readonly #pump: Promise<void>;
  #console = "";
  #onText: () => void = () => {};
  #ended = false;

  constructor([program = "", ...args]: readonly string[]) {
    this.#child = new Deno.Command(program, { args, stdin: "null", stdout: "piped", stderr: "piped" })
      .spawn();
    this.pid = this.#child.pid;
    this.#pump = this.#read();
  }

  /** Waits until the guest has printed `text`. */
  async untilConsole(text: string): Promise<void> {
    while (!this.#console.includes(text)) {
      if (this.#ended) {
        const message = await new Response(this.#child.stderr).text();
        throw new PeerError(`The peer ended before it printed "${text}": ${this.#console}${message}`);
      }
      await new Promise<void>((resolve) => this.#onText = resolve);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
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

/** A running QEMU. */
export class QemuMicrovm extends ConsoleProcess {
  constructor(options: QemuOptions) {
    super(["qemu-system-x86_64", ...qemuArguments(options)]);
  }
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
