import { equal } from "node:assert/strict";
import { join } from "node:path";
import { prepareKernel } from "../../src/images/kernel.ts";
import { findAlpine, makeAlpineDisk } from "../support/alpine_disk.ts";
import { run } from "../support/command.ts";
import { startOnPty } from "../support/pty.ts";
import { assertNothingLeft, sandboxCommand, withFolder } from "../support/sandbox_cli.ts";

/** Boots in a row; the goal is that not one of them fails. */
const BOOT_COUNT = Number(Deno.env.get("PADDOCK_BOOTS") ?? "20");
/** Boots at the same time. */
const AT_ONCE = 2;
/** Longest boot, emulation included, in `ms`. */
const BOOT_LIMIT_MS = 120_000;

const alpine = await findAlpine();
const ignore = alpine === undefined;
const suffix = ignore ? " (skipped: no Alpine root archive within reach)" : "";

/** The command of one boot, with the state of the terminal before and after it. */
function bootCommand(kernel: string, disk: string): string {
  const words = sandboxCommand("boot", "-k", kernel, "-d", disk, "-m", "256M");
  const quoted = [
    ...words,
    "-a",
    "console=ttyS0 reboot=t panic=-1 root=/dev/vda rw init=/sbin/init quiet i8042.noaux",
  ]
    .map((word) => `'${word}'`).join(" ");
  return `stty -a > before; ${quoted}; echo "code $?"; stty -a > after; cmp before after && echo restored`;
}

/** Boots to the prompt, logs in, types, and quits; gives the seconds to the prompt. */
async function bootAndType(kernel: string, base: string, folder: string): Promise<string> {
  await Deno.mkdir(folder, { recursive: true });
  const disk = join(folder, "disk.img");
  run("cp", ["--sparse=always", base, disk]);
  const start = performance.now();
  await using pty = startOnPty(`cd '${folder}'; ${bootCommand(kernel, disk)}`);
  const prompt = await pty.expect(/login: /, { limitMs: BOOT_LIMIT_MS });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  await pty.type("root\n");
  const shellPrompt = await pty.expect(/# /, { from: prompt, limitMs: 60_000 });
  await pty.type("echo typed-$((6 * 7))\n");
  const answered = await pty.expect(/typed-42/, { from: shellPrompt, limitMs: 60_000 });
  await pty.type("\x01\x03");
  const quit = await pty.expect(/code 0/, { from: answered, limitMs: 30_000 });
  await pty.expect(/restored/, { from: quit, limitMs: 10_000 });
  return seconds;
}

Deno.test({
  name:
    `sandbox boot reaches a login prompt that can be typed at, ${BOOT_COUNT} times of ${BOOT_COUNT}${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const { vmlinuxPath } = await prepareKernel({ onProgress: () => {}, step: "kernel" });
    await withFolder(async (folder) => {
      const disk = await makeAlpineDisk(alpine ?? "", folder);
      const seconds: string[] = [];
      let left = BOOT_COUNT;
      const bootInTurn = async (_: unknown, index: number): Promise<void> => {
        while (left-- > 0) seconds.push(await bootAndType(vmlinuxPath, disk, join(folder, `${index}`)));
      };
      await Promise.all(Array.from({ length: AT_ONCE }, bootInTurn));
      equal(seconds.length, BOOT_COUNT);
      console.log(`seconds to the login prompt: ${seconds.join(" ")}`);
    });
    await assertNothingLeft();
  },
});

Deno.test({
  name: `SIGTERM to sandbox boot ends it, and the terminal is as it was${suffix}`,
  ignore,
  async fn(): Promise<void> {
    const { vmlinuxPath } = await prepareKernel({ onProgress: () => {}, step: "kernel" });
    await withFolder(async (folder) => {
      const disk = await makeAlpineDisk(alpine ?? "", folder);
      await using pty = startOnPty(`cd '${folder}'; ${bootCommand(vmlinuxPath, disk)}`);
      await pty.expect(/login: /, { limitMs: BOOT_LIMIT_MS });
      const children = await new Deno.Command("pgrep", { args: ["-f", `main.ts boot -k .* -d ${disk}`] })
        .output();
      const pids = new TextDecoder().decode(children.stdout).trim().split("\n").map(Number);
      for (const pid of pids.filter((pid) => pid !== Deno.pid)) {
        const name = await new Deno.Command("cat", { args: [`/proc/${pid}/comm`] }).output();
        if (new TextDecoder().decode(name.stdout).trim() === "deno") Deno.kill(pid, "SIGTERM");
      }
      await pty.expect(/code [0-9]+/, { limitMs: 40_000 });
      await pty.expect(/restored/, { limitMs: 10_000 });
    });
    await assertNothingLeft();
  },
});
