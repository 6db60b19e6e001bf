/**
 * A VMM process with the user's console on it; and, where that is wanted, the next one when the guest rebooted.
 *
 * @module
 */

import { LineSplitter } from "../network/line_splitter.ts";
import { parseVmmEvent } from "../session/vmm_events.ts";
import type { VmEnd } from "../session/vmm_process.ts";
import { MAX_LINE_BYTES, type VmConfig, type VmmRequest, type VmTimings } from "../vmm/protocol.ts";
import { ConsoleKeys } from "./console_keys.ts";

/** How long a VMM has to exit beyond the grace of its guest, in `ms`. */
const EXIT_GRACE_MS = 5000;
/** A guest that reboots at once must not keep the host busy with new processes: one in so many `ms` is enough. */
const MIN_RUN_MS = 1000;

/** A VMM process, here or in the emulated host. */
export interface VmmChild {
  readonly stdin: WritableStream<Uint8Array>;
  readonly stdout: ReadableStream<Uint8Array>;
  readonly stderr: ReadableStream<Uint8Array>;
  readonly status: Promise<{ readonly code: number }>;
  kill(): void;
}

/** What the guest is connected to. */
export interface GuestConsoleOptions {
  readonly config: VmConfig;
  /** what a guest's reboot does: it ends the run, or a new VMM starts with the same configuration */
  readonly onReboot: "restart" | "exit";
  /** how long the guest has to power off once it is asked to, in `ms` */
  readonly graceMs: number;
  /** bytes typed by the user; its end leaves the guest running */
  readonly input: ReadableStream<Uint8Array>;
  readonly onOutput: (bytes: Uint8Array) => void;
  /**
   * calls back with the window's size in characters, now and whenever it changes, until what it returns is called
   * (default: there is no window)
   */
  readonly watchWindow?: (onSize: (cols: number, rows: number) => void) => () => void;
  /** when the boot was where: at its first instruction, and again when the guest says that it is ready */
  readonly onTimings: (timings: VmTimings) => void;
  /** aborts: the guest is asked to power off, then killed */
  readonly signal: AbortSignal;
}

/** Runs a guest, and what follows its reboots, to the end. */
export async function runOnConsole(spawn: () => VmmChild, options: GuestConsoleOptions): Promise<VmEnd> {
  const { config, signal } = options;
  let run = new GuestRun(spawn(), config);
  let leaving = false;
  const leave = (graceMs: number): void => {
    leaving = true;
    run.stop(graceMs);
  };
  const stop = (): void => leave(options.graceMs);
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const resize = (cols: number, rows: number): void => void run.send({ type: "resize", cols, rows });
  let unwatch = options.watchWindow?.(resize);
  void forwardKeys(options.input, {
    type: (bytes) => run.send({ type: "console", data: bytes.toBase64() }),
    quit: () => leave(0),
  });
  try {
    for (;;) {
      const started = performance.now();
      const end = await run.readToEnd(options);
      const rebooted = end.type === "stopped" && end.reason === "reset";
      if (!rebooted || options.onReboot === "exit") return end;
      await delay(MIN_RUN_MS - (performance.now() - started));
      if (leaving) return end;
      run = new GuestRun(spawn(), config);
      unwatch?.();
      unwatch = options.watchWindow?.(resize);
    }
  } finally {
    unwatch?.();
    signal.removeEventListener("abort", stop);
  }
}

/** One VMM process. */
class GuestRun {
  readonly #child: VmmChild;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #stderr: Promise<string>;
  #killTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(child: VmmChild, config: VmConfig) {
    this.#child = child;
    this.#writer = child.stdin.getWriter();
    this.#stderr = new Response(child.stderr as ReadableStream<Uint8Array<ArrayBuffer>>).text();
    void this.send({ type: "start", config });
  }

  async send(request: VmmRequest): Promise<void> {
    // The VMM may be gone: its end is reported by its output, not by its input.
    await this.#writer.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`)).catch(() => {});
  }

  /** Asks the guest to power off; the VMM kills it after `graceMs`, and is itself killed if it does not. */
  stop(graceMs: number): void {
    clearTimeout(this.#killTimer);
    this.#killTimer = setTimeout(() => this.#child.kill(), graceMs + EXIT_GRACE_MS);
    void this.send({ type: "stop", graceMs });
  }

  /** Passes the guest's output on until the VMM ends. */
  async readToEnd(
    { onOutput, onTimings }: Pick<GuestConsoleOptions, "onOutput" | "onTimings">,
  ): Promise<VmEnd> {
    const splitter = new LineSplitter(MAX_LINE_BYTES, "throw");
    let end: VmEnd | undefined;
    try {
      for await (const chunk of this.#child.stdout) {
        for (const line of splitter.push(chunk)) {
          const event = parseVmmEvent(line);
          if (event.type === "console") onOutput(Uint8Array.fromBase64(event.data));
          else if (event.type === "started" || event.type === "booted") onTimings(event.timings);
          else if (event.type === "stopped" || event.type === "failed") end ??= event;
        }
      }
      const { code } = await this.#child.status;
      const message = (await this.#stderr).trim().split("\n").slice(-3).join("; ");
      return end ?? { type: "crashed", exitCode: code, message };
    } finally {
      clearTimeout(this.#killTimer);
    }
  }
}

async function forwardKeys(
  input: ReadableStream<Uint8Array>,
  actions: { readonly type: (bytes: Uint8Array) => Promise<void>; readonly quit: () => void },
): Promise<void> {
  const keys = new ConsoleKeys();
  for await (const typed of input) {
    const { toGuest, quit } = keys.push(typed);
    if (toGuest.length > 0) await actions.type(toGuest);
    if (quit) return actions.quit();
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
