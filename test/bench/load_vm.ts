/**
 * The guest that makes load, under each of the monitors that a bench compares.
 *
 * @module
 */

import { ConsoleShell } from "../support/console_shell.ts";
import { CMDLINE, type LoadGuest } from "../support/load_guest/load_guest.ts";
import { TestVmm } from "../support/vmm.ts";
import { ConsoleProcess, qemuArguments, type QemuDisk } from "./qemu_microvm.ts";
import type { Program } from "./tools.ts";

/** What the guest has besides its root disk, which is /dev/vda. */
export interface LoadVmOptions {
  readonly guest: LoadGuest;
  /** /dev/vdb and on */
  readonly disks?: readonly QemuDisk[];
  /** TAP device in a network namespace; the guest's address with its prefix length */
  readonly net?: { readonly namespace: string; readonly tap: string; readonly address: string };
}

/** A guest that takes commands, in a monitor that ends with it. */
export interface LoadVm extends AsyncDisposable {
  readonly shell: ConsoleShell;
}

const MEMORY_MIB = 512;
const MAC = "06:00:ac:1e:00:02";

function wordsOf({ net }: LoadVmOptions): string {
  return net === undefined ? CMDLINE : `${CMDLINE} paddock.ip=${net.address}`;
}

function disksOf({ guest, disks = [] }: LoadVmOptions): QemuDisk[] {
  return [{ path: guest.diskPath, format: "raw", readOnly: true }, ...disks];
}

/** Starts it under our own monitor. */
export async function startOurs(options: LoadVmOptions): Promise<LoadVm & { readonly vmm: TestVmm }> {
  const { guest, net } = options;
  const vmm = new TestVmm(net?.namespace);
  try {
    await vmm.start({
      kernelPath: guest.kernelPath,
      cmdline: wordsOf(options),
      memoryMib: MEMORY_MIB,
      disks: disksOf(options),
      ...(net === undefined ? {} : { net: { tap: net.tap, mac: MAC } }),
    });
    const shell = await ConsoleShell.open(vmm);
    return { vmm, shell, [Symbol.asyncDispose]: () => vmm[Symbol.asyncDispose]() };
  } catch (error) {
    await vmm[Symbol.asyncDispose]();
    throw error;
  }
}

/** Starts it under QEMU; `vhost`: the host's kernel moves the packets. */
export async function startQemu(qemu: Program, options: LoadVmOptions, vhost = false): Promise<LoadVm> {
  const { guest, net } = options;
  const enter = net === undefined ? [] : ["ip", "netns", "exec", net.namespace];
  const args = qemuArguments({
    kernelPath: guest.kernelPath,
    cmdline: wordsOf(options),
    memoryMib: MEMORY_MIB,
    disks: disksOf(options),
    ...(net === undefined ? {} : { net: { tap: net.tap, vhost } }),
  });
  const process = new ConsoleProcess([...enter, ...qemu, ...args]);
  try {
    const shell = await ConsoleShell.open(process);
    return { shell, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() };
  } catch (error) {
    await process[Symbol.asyncDispose]();
    throw error;
  }
}
