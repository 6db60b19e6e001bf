/**
 * A VMM process as tests drive it: the real program, over its real protocol.
 *
 * @module
 */

import { prepareMonitor } from "../../src/images/monitor_code.ts";
import { vmmCommand, vmmEnv } from "../../src/session/vmm_process.ts";
import { LineReader } from "../../src/vmm/line_reader.ts";
import { MAX_LINE_BYTES, type VmConfig, type VmmEvent, type VmmRequest } from "../../src/vmm/protocol.ts";

const monitor = await prepareMonitor();

/** One VMM process. */
export class TestVmm implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #events: VmmEvent[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #pump: Promise<void>;
  #ended = false;
  readonly #logPump: Promise<void>;
  /** all that the guest wrote to its serial port so far */
  console = "";
  /** all that the process logged so far */
  log = "";

  /** Starts the process, in a network namespace if one is named. */
  constructor(namespace?: string) {
    const inside = namespace === undefined ? [] : ["ip", "netns", "exec", namespace];
    const [program = "", ...args] = vmmCommand(inside, monitor);
    this.#child = new Deno.Command(program, {
      args,
      env: vmmEnv(),
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#pump = this.#readEvents(this.#child.stdout);
    this.#logPump = this.#readLog(this.#child.stderr);
  }

  get pid(): number {
    return this.#child.pid;
  }

  get status(): Promise<Deno.CommandStatus> {
    return this.#child.status;
  }

  /** Sends one request. */
  async send(request: VmmRequest): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
  }

  /** Starts a machine; what is not given is small. */
  async start(config: Partial<VmConfig> & { kernelPath: string }): Promise<void> {
    await this.send({ type: "start", config: { cmdline: "", memoryMib: 16, cpus: 1, disks: [], ...config } });
  }

  /** Types at the guest's serial console. */
  async type(text: string): Promise<void> {
    await this.send({ type: "console", data: new TextEncoder().encode(text).toBase64() });
  }

  /** Signals the process. */
  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Ends the process's stdin: the control process is gone. */
  async hangUp(): Promise<void> {
    await this.#writer.close();
  }

  /** The first event of a type, also one that has come already; a test that waits for ever proves nothing. */
  async until<T extends VmmEvent["type"]>(
    type: T,
    timeoutMs = 120_000,
  ): Promise<Extract<VmmEvent, { type: T }>> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = this.#events.find((event) => event.type === type);
      if (found !== undefined) return found as Extract<VmmEvent, { type: T }>;
      const failed = this.#events.find((event) => event.type === "failed");
      if (failed?.type === "failed") throw new VmmGoneError(failed.message);
      if (this.#ended) throw new VmmGoneError(`The VMM ended before "${type}"`);
      if (performance.now() > deadline) throw new VmmGoneError(`No "${type}" within ${timeoutMs} ms`);
      await this.#change();
    }
  }

  /** Waits until the guest has written `text` to its serial port. */
  async untilConsole(text: string, timeoutMs = 120_000): Promise<void> {
    for (const deadline = performance.now() + timeoutMs; !this.console.includes(text);) {
      if (this.#ended) throw new VmmGoneError(`The VMM ended before it printed "${text}"`);
      if (performance.now() > deadline) throw new VmmGoneError(`No "${text}" within ${timeoutMs} ms`);
      await this.#change();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#writer.abort().catch(() => {});
    await this.#pump;
    await this.#logPump;
    await this.#child.status;
  }

  /** Whoever looks at a failed test sees the log too. */
  async #readLog(stderr: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stderr) {
      this.log += decoder.decode(chunk, { stream: true });
      Deno.stderr.writeSync(chunk);
    }
  }

  async #readEvents(stdout: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const line of new LineReader(stdout, 2 * MAX_LINE_BYTES)) {
      const event: VmmEvent = JSON.parse(line);
      if (event.type === "console") {
        this.console += decoder.decode(Uint8Array.fromBase64(event.data), { stream: true });
      } else this.#events.push(event);
      this.#wake();
    }
    this.#ended = true;
    this.#wake();
  }

  /** Something new, or half a second. */
  async #change(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#waiting.add(resolve);
      timer = setTimeout(resolve, 500);
    });
    clearTimeout(timer);
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

/** The process ended, or failed, where a test did not expect it. */
export class VmmGoneError extends Error {
  override readonly name = "VmmGoneError";
}
