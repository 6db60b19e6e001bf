import { equal, match, ok } from "node:assert/strict";
import { join } from "node:path";
import type { VmConfig } from "../../src/vmm/protocol.ts";
import { type ConsoleGuest, startOnConsole } from "../support/console_guest.ts";
import { run } from "../support/command.ts";
import { type DebianKernel, findDebian } from "../support/debian_guest.ts";

/** Longest way to a login prompt, under two emulations on a machine that others load. */
const BOOT_LIMIT_MS = 180_000;
const COMMAND_LIMIT_MS = 60_000;
const POWER_OFF_LIMIT_MS = 60_000;
const CMDLINE = "console=ttyS0 root=/dev/vda rw quiet";
/**
 * QEMU 7.2's software emulation, under the emulated host, gives wrong flags after a CMPXCHG16B without LOCK: with it
 * a 6.12 dies in its memory allocator there. This word makes it do without the instruction.
 */
const NO_CMPXCHG16B = "clearcpuid=cx16";

const debian = findDebian();
const [release, backport] = debian?.kernels ?? [];

/** A test with a Debian of this kernel on a fresh overlay of its disk. */
function debianTest(
  name: string,
  kernel: DebianKernel | undefined,
  test: (guest: ConsoleGuest, kernel: DebianKernel) => Promise<void>,
  change: Partial<VmConfig> = {},
): void {
  Deno.test({
    name: kernel === undefined ? `${name} (skipped: no such kernel was built)` : `${name}: ${kernel.version}`,
    ignore: kernel === undefined,
    async fn(): Promise<void> {
      if (kernel === undefined || debian === undefined) return;
      const folder = await Deno.makeTempDir({ prefix: "paddock-debian-" });
      const overlay = join(folder, "disk.qcow2");
      run("qemu-img", ["create", "-q", "-f", "qcow2", "-b", debian.diskPath, "-F", "raw", overlay]);
      const guest = startOnConsole({
        kernelPath: kernel.kernelPath,
        initrdPath: kernel.initrdPath,
        cmdline: CMDLINE,
        memoryMib: 768,
        cpus: 1,
        disks: [{ path: overlay, format: "qcow2" }],
        ...change,
      }, POWER_OFF_LIMIT_MS);
      try {
        await test(guest, kernel);
      } finally {
        guest.stop();
        await guest.ended;
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

/** Logs in at the prompt that comes after `from`; gives the place of the shell's prompt. */
async function logIn(guest: ConsoleGuest, from: number): Promise<number> {
  const started = performance.now();
  const prompt = await guest.expect(/debian login: /, { from, limitMs: BOOT_LIMIT_MS });
  console.log(`login prompt after ${((performance.now() - started) / 1000).toFixed(1)} s`);
  guest.type("root\n");
  return await guest.expect(/root@debian:~# /, { from: prompt, limitMs: COMMAND_LIMIT_MS });
}

/** Runs a command in the guest's shell; its output, with the command itself as it was typed. */
async function shell(guest: ConsoleGuest, command: string): Promise<string> {
  const from = guest.text.length;
  guest.type(`${command}; echo "status=$?"\n`);
  const end = await guest.expect(/status=[0-9]+/, { from, limitMs: COMMAND_LIMIT_MS });
  // What Bash writes for terminals that know a paste from typing
  return guest.text.slice(from, end).replaceAll("\x1b[?2004l", "").replaceAll("\r", "");
}

debianTest(
  "Debian boots by ACPI, reboot starts it again on the same disk, and poweroff ends it",
  release,
  async (guest, kernel) => {
    await logIn(guest, 0);
    match(await shell(guest, "uname -r; nproc"), new RegExp(`${RegExp.escape(kernel.version)}\\n1\\n`));
    const messages = await shell(guest, "dmesg | grep -iE 'ACPI|virtio|rtc_cmos|irq 4'");
    match(messages, /ACPI: PM: \(supports S0 S5\)/);
    match(await shell(guest, "cat /proc/interrupts"), /acpi[\s\S]*virtio/);
    await shell(guest, "echo kept > /root/marker && sync");
    const before = guest.text.length;
    guest.type("reboot\n");
    await logIn(guest, before);
    match(await shell(guest, "cat /root/marker"), /kept\s+status=0/);
    guest.type("poweroff\n");
    const end = await guest.ended;
    ok(end.type === "stopped", JSON.stringify(end));
    equal(end.reason, "poweroff");
  },
);

debianTest(
  "Debian with the backports' kernel sees two CPUs and the time, and powers off by its power button",
  backport,
  async (guest) => {
    await logIn(guest, 0);
    match(await shell(guest, "nproc"), /\n2\n/);
    const seconds = Number(/\n([0-9]+)/.exec(await shell(guest, "cat /sys/class/rtc/rtc0/since_epoch"))?.[1]);
    ok(Math.abs(seconds - Date.now() / 1000) < 120, `the guest's clock says ${seconds}`);
    guest.stop();
    const end = await guest.ended;
    ok(end.type === "stopped", JSON.stringify(end));
    equal(end.reason, "poweroff");
    match(guest.text, /reboot: Power down/);
  },
  { cpus: 2, cmdline: `${CMDLINE} ${NO_CMPXCHG16B}` },
);
