/**
 * `sandbox host status|start|stop|exec`: the emulated KVM host.
 *
 * @module
 */

import {
  type EmulatedHostStatus,
  emulatedHostStatus,
  execInEmulatedHost,
  startEmulatedHost,
  stopEmulatedHost,
} from "../../local/emulated_host.ts";
import { untilInterrupted } from "../interrupt.ts";
import { progressOnStderr } from "../progress_display.ts";
import { UsageError } from "../usage_error.ts";

function statusLine(status: EmulatedHostStatus): string {
  if (!status.running) return "The emulated host is not running";
  const { pid, url, memoryMib, startedAt } = status;
  return `The emulated host is running: pid ${pid}, ${url}, ${memoryMib} MiB, since ${startedAt}`;
}

async function start(): Promise<ReturnType<typeof startEmulatedHost>> {
  const progress = progressOnStderr();
  using interrupt = untilInterrupted(() => progress.line("Stopping"));
  try {
    return await startEmulatedHost({ onProgress: (event) => progress.show(event), signal: interrupt.signal });
  } finally {
    progress.clear();
  }
}

async function exec(args: readonly string[]): Promise<number> {
  const argv = args[0] === "--" ? args.slice(1) : args;
  if (argv.length === 0) throw new UsageError("A command is needed: sandbox host exec -- CMD ARGUMENT…");
  const child = execInEmulatedHost(await start(), { argv: [...argv] });
  using interrupt = untilInterrupted(() => child.kill());
  void interrupt;
  void Deno.stdin.readable.pipeTo(child.stdin).catch(() => {/* the command ended without reading it all */});
  const output = { preventClose: true };
  await Promise.all([
    child.stdout.pipeTo(Deno.stdout.writable, output),
    child.stderr.pipeTo(Deno.stderr.writable, output),
  ]);
  return (await child.status).code;
}

/** Runs the command and gives its exit code. */
export async function host(args: readonly string[]): Promise<number> {
  const [verb, ...rest] = args;
  if (verb === "exec") return await exec(rest);
  if (rest.length > 0 && rest[0] !== "--json") throw new UsageError(`Unexpected argument "${rest[0]}"`);
  switch (verb) {
    case "status": {
      const status = await emulatedHostStatus();
      console.log(rest[0] === "--json" ? JSON.stringify(status) : statusLine(status));
      return 0;
    }
    case "start":
      await start();
      console.log(statusLine(await emulatedHostStatus()));
      return 0;
    case "stop":
      await stopEmulatedHost();
      console.log("The emulated host is stopped");
      return 0;
    default:
      throw new UsageError("sandbox host takes status, start, stop or exec");
  }
}
