/**
 * One VMM child process: started inside the session's network namespace, spoken to in NDJSON over its stdin
 * and stdout, ended step by step: asked, then SIGTERM, then SIGKILL.
 *
 * @module
 */

import { monitorFolders } from "../images/monitor_code.ts";
import { spawnHostCommand, toolEnv } from "../network/host_command.ts";
import {
  MAX_LINE_BYTES,
  type VmConfig,
  type VmmEvent,
  type VmmRequest,
  type VmTimings,
} from "../vmm/protocol.ts";
import { LineSplitter } from "../network/line_splitter.ts";
import { settlesWithin } from "./settles_within.ts";
import { TextTail } from "./text_tail.ts";
import { describeVmEnd, type VmEnd } from "./vm_end.ts";
import { parseVmmEvent } from "./vmm_events.ts";

export { describeVmEnd, type VmEnd } from "./vm_end.ts";

/** How long a VMM has to exit after its guest ended, and after SIGTERM, in `ms`. */
const EXIT_GRACE_MS = 3000;
const OUTPUT_GRACE_MS = 1000;
/** How long a VMM has to take its vCPUs out of the guest, or to put them back, in `ms`. */
const ANSWER_LIMIT_MS = 15_000;
/** How long a VMM that is to be ended at once has to say what it counted, in `ms`. */
const LAST_WORDS_LIMIT_MS = 1500;
const CONSOLE_TAIL_LENGTH = 64 * 1024;
const STDERR_TAIL_LENGTH = 16 * 1024;

/** Permissions of a VMM process: FFI and its own code. Disks and devices it opens through FFI. */
const VMM_FLAGS = [
  "run",
  "--quiet",
  "--no-prompt",
  "--no-lock",
  "--cached-only",
  // For `collect_garbage.ts`.
  "--v8-flags=--expose-gc",
  "--allow-ffi",
] as const;

/** The VM could not be started. */
export class VmStartError extends Error {
  override readonly name = "VmStartError";
  readonly end: VmEnd;

  constructor(end: VmEnd) {
    super(`Cannot start the VM: ${describeVmEnd(end)}`);
    this.end = end;
  }
}

/** The VMM did not do what it was asked. */
export class VmAnswerError extends Error {
  override readonly name = "VmAnswerError";
}

/**
 * The command of a VMM process that runs `monitor`, see {@linkcode prepareMonitor} and {@linkcode MONITOR_SOURCE};
 * `deno` is the program that does it.
 */
export function vmmCommand(enter: readonly string[], monitor: string, deno = Deno.execPath()): string[] {
  // Deno reads the code of the VMM's threads; a comma in a path is written twice.
  const folders = monitorFolders(monitor).map((folder) => folder.replaceAll(",", ",,")).join(",");
  return [...enter, deno, ...VMM_FLAGS, `--allow-read=${folders}`, monitor];
}

/**
 * The variables of a VMM process: those of this process that Deno needs to find its cache, and no others. One malloc
 * arena for all threads: they allocate little once the guest runs, and each arena keeps what a start-up left.
 */
export function vmmEnv(): Record<string, string> {
  const kept = ["HOME", "DENO_DIR", "XDG_CACHE_HOME"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value] as const];
  });
  const fixed = { DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", MALLOC_ARENA_MAX: "1" };
  return toolEnv({ ...Object.fromEntries(kept), ...fixed });
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A VMM process and the VM in it. */
export class VmmProcess {
  readonly #child: Deno.ChildProcess;
  readonly #exitGraceMs: number;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #started = Promise.withResolvers<VmTimings>();
  readonly #ended = Promise.withResolvers<VmEnd>();
  /** settles when the VMM has said how its VM ended */
  readonly #told = Promise.withResolvers<void>();
  readonly #console = new TextTail(CONSOLE_TAIL_LENGTH);
  readonly #stderr = new TextTail(STDERR_TAIL_LENGTH);
  /** told of vsock addresses that the guest tried to reach and may not */
  onVsockRefused: (cid: number, port: number) => void = () => {};
  /** told of the next `paused` or `resumed` */
  readonly #answers = new Map<VmmEvent["type"], PromiseWithResolvers<void>>();
  #end: VmEnd | undefined;
  #timings: VmTimings | undefined;

  private constructor(child: Deno.ChildProcess, exitGraceMs: number) {
    this.#child = child;
    this.#exitGraceMs = exitGraceMs;
    this.#input = child.stdin.getWriter();
    // Whoever waits for the start learns of an early end through it; nobody has to.
    this.#started.promise.catch(() => {});
    void this.#run();
  }

  /**
   * Starts the process that runs `monitor`; `enter` is put before its command, `exitGraceMs` is the pause between asking
   * and forcing.
   */
  static spawn(enter: readonly string[], monitor: string, exitGraceMs = EXIT_GRACE_MS): VmmProcess {
    const options = { env: vmmEnv(), stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    return new VmmProcess(spawnHostCommand(vmmCommand(enter, monitor), options), exitGraceMs);
  }

  /** pid of the process */
  get pid(): number {
    return this.#child.pid;
  }

  /** settles once the process is gone, with how its VM ended; never rejects */
  get ended(): Promise<VmEnd> {
    return this.#ended.promise;
  }

  /** when the boot was where, as far as it is; undefined before the first instruction */
  get timings(): VmTimings | undefined {
    return this.#timings;
  }

  /** end of the guest's serial output */
  get console(): TextTail {
    return this.#console;
  }

  /**
   * Starts the VM.
   *
   * @throws {VmStartError} when it ends before its first instruction
   */
  async start(config: VmConfig): Promise<VmTimings> {
    await this.#send({ type: "start", config });
    return await this.#started.promise;
  }

  /** Takes the vCPUs out of the guest; settles when they are. @throws {VmAnswerError} */
  async pause(): Promise<void> {
    await this.#ask({ type: "pause" }, "paused");
  }

  /** Lets a paused guest go on. @throws {VmAnswerError} */
  async resume(): Promise<void> {
    await this.#ask({ type: "resume" }, "resumed");
  }

  /**
   * Asks the guest to power off, and makes sure that the process is gone in bounded time. `ask` is how the guest's own
   * init can be asked, if it can: where that fails, or did not help in half of the time, the VMM presses its buttons.
   */
  async stop(graceMs: number, ask?: () => Promise<void>): Promise<VmEnd> {
    const deadlineMs = performance.now() + graceMs;
    if (ask !== undefined) {
      const refusal = Promise.withResolvers<void>();
      ask().catch(() => refusal.resolve());
      await Promise.race([refusal.promise, this.#endsWithin(graceMs / 2)]);
    }
    const leftMs = Math.max(0, Math.round(deadlineMs - performance.now()));
    await this.#send({ type: "stop", graceMs: leftMs });
    if (!await this.#endsWithin(leftMs + this.#exitGraceMs)) this.#signal("SIGTERM");
    if (!await this.#endsWithin(this.#exitGraceMs)) this.#signal("SIGKILL");
    return await this.ended;
  }

  /** Ends the VM without asking its guest; its monitor has a moment to say what it counted. */
  async end(): Promise<VmEnd> {
    void this.#send({ type: "stop", graceMs: 0 });
    await settlesWithin(LAST_WORDS_LIMIT_MS, Promise.race([this.#told.promise, this.ended]));
    return await this.kill();
  }

  /** Kills the process: nothing in it is worth waiting for. */
  async kill(): Promise<VmEnd> {
    this.#signal("SIGKILL");
    return await this.ended;
  }

  /** Kills the process and has it ended as `message` says. */
  async abandon(message: string): Promise<VmEnd> {
    this.#end ??= { type: "abandoned", message };
    return await this.kill();
  }

  async #run(): Promise<void> {
    const splitter = new LineSplitter(MAX_LINE_BYTES, "throw");
    const stderr = this.#readStderr();
    try {
      const reader = this.#child.stdout.getReader();
      // Something that the VMM started may hold its output open for longer than it lives.
      void this.#child.status.then(() => delay(OUTPUT_GRACE_MS)).then(() => reader.cancel());
      for (let read = await reader.read(); !read.done; read = await reader.read()) {
        for (const line of splitter.push(read.value)) this.#handle(parseVmmEvent(line));
      }
    } catch (error) {
      this.#signal("SIGKILL");
      const message = error instanceof Error ? error.message : String(error);
      this.#end ??= { type: "crashed", exitCode: -1, message };
    }
    const status = await this.#child.status;
    await Promise.race([stderr, delay(OUTPUT_GRACE_MS)]);
    await this.#input.abort().catch(() => {/* the process is gone: so is its stdin */});
    const message = this.#stderr.lastLines(5);
    const end = this.#end ?? { type: "crashed", exitCode: status.code, message } as const;
    this.#started.reject(new VmStartError(end));
    this.#ended.resolve(end);
  }

  #handle(event: VmmEvent): void {
    switch (event.type) {
      case "hello":
        return;
      case "paused":
      case "resumed":
        return this.#answers.get(event.type)?.resolve();
      case "started":
        this.#timings = event.timings;
        return this.#started.resolve(event.timings);
      case "vsock_refused":
        return this.onVsockRefused(event.cid, event.port);
      case "booted":
        this.#timings = event.timings;
        return;
      case "console":
        return this.#console.push(Uint8Array.fromBase64(event.data));
      case "stopped":
      case "failed":
        this.#end ??= event;
        return this.#told.resolve();
    }
  }

  async #readStderr(): Promise<void> {
    for await (const chunk of this.#child.stderr) this.#stderr.push(chunk);
  }

  async #ask(request: VmmRequest, answer: "paused" | "resumed"): Promise<void> {
    const answered = Promise.withResolvers<void>();
    this.#answers.set(answer, answered);
    await this.#send(request);
    const over = this.ended.then((end) => {
      throw new VmAnswerError(`VM is not ${answer}: ${describeVmEnd(end)}`);
    });
    if (await settlesWithin(ANSWER_LIMIT_MS, Promise.race([answered.promise, over]))) return;
    throw new VmAnswerError(`VM is not ${answer}: its monitor does not answer`);
  }

  async #send(request: VmmRequest): Promise<void> {
    try {
      await this.#input.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
    } catch {
      // The process is gone or going: `ended` says how.
    }
  }

  #signal(name: Deno.Signal): void {
    try {
      this.#child.kill(name);
    } catch {
      // It is gone already.
    }
  }

  async #endsWithin(timeoutMs: number): Promise<boolean> {
    return await settlesWithin(timeoutMs, this.ended);
  }
}
