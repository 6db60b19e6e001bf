/**
 * Commands to the guest that makes load, over the console of whatever monitor runs it.
 *
 * @module
 */

import { READY } from "./load_guest/load_guest.ts";

/** A guest's console. */
export interface ConsolePort {
  /** all that the guest printed so far */
  readonly console: string;
  type(text: string): Promise<void>;
  /** waits until the guest has printed `text`; fails if it has not within `timeoutMs` */
  untilConsole(text: string, timeoutMs?: number): Promise<void>;
}

/** A command in the guest failed. */
export class ShellError extends Error {
  override readonly name = "ShellError";
}

/** A guest that takes commands, one at a time. */
export class ConsoleShell {
  readonly #port: ConsolePort;
  #count = 0;

  private constructor(port: ConsolePort) {
    this.#port = port;
  }

  /** Waits until the guest takes commands. */
  static async open(port: ConsolePort, timeoutMs?: number): Promise<ConsoleShell> {
    await port.untilConsole(`${READY}\n`, timeoutMs);
    return new ConsoleShell(port);
  }

  /**
   * Runs a command (one line, at most 4000 bytes) in the guest's shell; what it printed.
   *
   * @throws {ShellError} if it ends with another code than 0
   */
  async run(command: string, timeoutMs?: number): Promise<string> {
    const { output, exitCode } = await this.tryRun(command, timeoutMs);
    if (exitCode !== 0) throw new ShellError(`The guest's "${command}" ended with ${exitCode}: ${output}`);
    return output;
  }

  /** Runs a command, whatever it ends with. */
  async tryRun(command: string, timeoutMs?: number): Promise<{ output: string; exitCode: number }> {
    const start = this.#port.console.length;
    await this.#port.type(`${command}\n`);
    await this.#port.untilConsole(`load-done ${++this.#count}\n`, timeoutMs);
    const printed = this.#port.console.slice(start);
    const [, output = "", exitCode] = /^([^]*)load-exit (\d+)\n/.exec(printed) ?? [];
    return { output, exitCode: Number(exitCode) };
  }
}
