/**
 * Runs the real PID 1 program on this machine, as `--serve-unix`.
 *
 * @module
 */
import { prepareGuestInit } from "../../src/images/guest_init.ts";
import { findTool } from "../../src/images/host_tools.ts";

/** Why the tests that use it cannot run here, or undefined. */
export const initUnavailable: string | undefined = await findTool("musl-gcc") === undefined
  ? "musl-gcc is not installed"
  : undefined;

/** A running `paddock-init --serve-unix`, in a folder of its own. */
export class NativeInit implements AsyncDisposable {
  readonly folder: string;
  readonly socket: string;
  readonly #child: Deno.ChildProcess;

  private constructor(folder: string, socket: string, child: Deno.ChildProcess) {
    this.folder = folder;
    this.socket = socket;
    this.#child = child;
  }

  /** Starts it and waits until it listens. */
  static async start(): Promise<NativeInit> {
    const program = await prepareGuestInit();
    const folder = await Deno.makeTempDir({ prefix: "paddock-init-" });
    const socket = `${folder}/sock`;
    const child = new Deno.Command(program, { args: ["--serve-unix", socket], stdin: "null", stdout: "null" })
      .spawn();
    for (;;) {
      try {
        (await Deno.connect({ transport: "unix", path: socket })).close();
        return new NativeInit(folder, socket, child);
      } catch {
        // it does not listen yet
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    }
  }

  /** Process id of the server. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Settles when the server ended. */
  get status(): Promise<Deno.CommandStatus> {
    return this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // it ended by itself
    }
    await this.#child.status;
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** A test with an init process of its own, skipped with the reason where there can be none. */
export function guestTest(name: string, body: (init: NativeInit) => Promise<void>): void {
  const ignore = initUnavailable !== undefined;
  Deno.test({
    name: ignore ? `${name} (${initUnavailable})` : name,
    ignore,
    fn: async () => {
      await using init = await NativeInit.start();
      await body(init);
    },
  });
}
