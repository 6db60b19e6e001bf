/**
 * A VMM process as tests drive it: the real program, over its real protocol.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { LineReader } from "../../src/vmm/line_reader.ts";
import { MAX_LINE_BYTES, type VmConfig, type VmmEvent, type VmmRequest } from "../../src/vmm/protocol.ts";

const MAIN = fileURLToPath(new URL("../../src/vmm/main.ts", import.meta.url));

/** One VMM process. */
export class TestVmm implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: AsyncGenerator<string, void>;
  /** all that the guest wrote to its serial port so far */
  console = "";

  constructor() {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-lock", "--quiet", MAIN],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#lines = new LineReader(this.#child.stdout, 2 * MAX_LINE_BYTES)[Symbol.asyncIterator]();
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

  /** Signals the process. */
  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Ends the process's stdin: the control process is gone. */
  async hangUp(): Promise<void> {
    await this.#writer.close();
  }

  /** The next event that is not console output. */
  async next(): Promise<VmmEvent | undefined> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done || value === undefined) return undefined;
      const event: VmmEvent = JSON.parse(value);
      if (event.type !== "console") return event;
      this.console += new TextDecoder().decode(Uint8Array.fromBase64(event.data));
    }
  }

  /** The next event of a type; others before it are skipped. */
  async until<T extends VmmEvent["type"]>(type: T): Promise<Extract<VmmEvent, { type: T }>> {
    for (;;) {
      const event = await this.next();
      if (event === undefined) throw new VmmGoneError(`The VMM ended before "${type}"`);
      if (event.type === type) return event as Extract<VmmEvent, { type: T }>;
      if (event.type === "failed") throw new VmmGoneError(event.message);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#writer.abort().catch(() => {});
    await this.#lines.return();
    await this.#child.status;
  }
}

/** The process ended, or failed, where a test did not expect it. */
export class VmmGoneError extends Error {
  override readonly name = "VmmGoneError";
}
