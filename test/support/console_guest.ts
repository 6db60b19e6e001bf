/**
 * A guest on a console, as `sandbox boot` runs it, with a test in place of the user.
 *
 * @module
 */

import { MONITOR_SOURCE } from "../../src/images/monitor_code.ts";
import { runOnConsole, type VmmChild } from "../../src/local/guest_console.ts";
import { type VmEnd, vmmCommand } from "../../src/session/vmm_process.ts";
import type { VmConfig } from "../../src/vmm/protocol.ts";

/** The guest did not print what a test waits for. */
export class ConsoleError extends Error {
  override readonly name = "ConsoleError";
}

/** A guest that runs. */
export interface ConsoleGuest {
  /** all that it printed so far, with its reboots */
  readonly text: string;
  /** settles when it has ended */
  readonly ended: Promise<VmEnd>;
  /** Types. */
  type(text: string): void;
  /** Waits until a pattern occurs after `from`; gives the end of the match. */
  expect(pattern: RegExp, options: { readonly from?: number; readonly limitMs: number }): Promise<number>;
  /** Asks it to power off. */
  stop(): void;
}

function spawnVmm(): VmmChild {
  const [program = "", ...args] = vmmCommand([], MONITOR_SOURCE);
  const child = new Deno.Command(program, { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
  return {
    stdin: child.stdin,
    stdout: child.stdout,
    stderr: child.stderr,
    status: child.status,
    kill: () => child.kill("SIGKILL"),
  };
}

/** Starts a guest that restarts when it reboots, and is killed `graceMs` after {@linkcode ConsoleGuest.stop}. */
export function startOnConsole(config: VmConfig, graceMs: number): ConsoleGuest {
  let text = "";
  let over = false;
  const decoder = new TextDecoder();
  const leaving = new AbortController();
  const keys = new TransformStream<Uint8Array, Uint8Array>();
  const typist = keys.writable.getWriter();
  const options = {
    config,
    graceMs,
    onReboot: "restart",
    input: keys.readable,
    onOutput: (bytes: Uint8Array): void => void (text += decoder.decode(bytes, { stream: true })),
    watchWindow: () => () => {},
    onTimings: () => {},
    signal: leaving.signal,
  } as const;
  const ended = runOnConsole(spawnVmm, options).finally(() => over = true);
  return {
    get text(): string {
      return text;
    },
    ended,
    type: (typed) => void typist.write(new TextEncoder().encode(typed)).catch(() => {/* it has ended */}),
    async expect(pattern, { from = 0, limitMs }): Promise<number> {
      const deadline = performance.now() + limitMs;
      for (;;) {
        const match = pattern.exec(text.slice(from));
        if (match !== null) return from + match.index + match[0].length;
        const panicked = text.includes("Kernel panic");
        if (over || panicked || performance.now() > deadline) {
          const why = over ? "it ended" : panicked ? "it panicked" : `${limitMs} ms`;
          throw new ConsoleError(`No ${pattern} from the guest, ${why}; it wrote: ${text.slice(-4000)}`);
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    stop: () => leaving.abort(),
  };
}
