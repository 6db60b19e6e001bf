/**
 * Commands on terminals that outlive their connections: whoever lost one comes back to the same terminal, is shown what
 * was missed, and goes on.
 *
 * @module
 */

import type { GuestProcess } from "../session/guest_client.ts";
import { SessionError } from "../session/session_error.ts";

/** Most output that is kept for those who come back, in bytes. */
const SCROLLBACK_BYTES = 256 * 1024;
/** How long a terminal without a connection, or whose command ended, stays, in `ms`. */
const DETACHED_LIMIT_MS = 60_000;
const MAX_TERMINALS = 16;

/** A connection to a terminal. */
export interface TerminalView {
  /** takes output; the command waits while the promise is pending */
  readonly onStdout: (chunk: Uint8Array) => void | Promise<void>;
  /** Tells the client which terminal this is; `offset`: bytes of output before those that follow. */
  readonly onAttached: (id: string, offset: number) => void;
  /** somebody else has the terminal now */
  readonly onDisplaced: () => void;
}

/** A command with a connection: `close` only gives up the connection, `kill` the command. */
export type AttachedProcess = GuestProcess & { kill(): void };

/** One terminal. */
class Terminal {
  readonly id = crypto.randomUUID();
  #process: GuestProcess | undefined;
  #view: TerminalView | undefined;
  readonly #chunks: Uint8Array[] = [];
  #keptBytes = 0;
  /** bytes of output so far */
  #byteCount = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #onOver: () => void;

  /** `onOver` is told when it is to be forgotten. */
  constructor(onOver: () => void) {
    this.#onOver = onOver;
  }

  /** Its command runs. */
  started(process: GuestProcess): void {
    this.#process = process;
    // How it ended is there to be told for a while
    void process.exit.catch(() => {}).then(() => this.#forgetLater());
  }

  /** Takes output: it is kept before it is shown, so that nothing is lost with a connection. */
  async output(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(chunk);
    this.#keptBytes += chunk.length;
    this.#byteCount += chunk.length;
    while (this.#keptBytes - (this.#chunks[0]?.length ?? 0) >= SCROLLBACK_BYTES) {
      this.#keptBytes -= this.#chunks.shift()?.length ?? 0;
    }
    await this.#view?.onStdout(chunk);
  }

  /** Connects a view, in place of the one before; shows it what came after the first `seenBytes`. */
  attach(view: TerminalView, seenBytes: number): AttachedProcess {
    const process = this.#process;
    if (process === undefined) throw new SessionError("conflict", "The terminal is not there yet");
    clearTimeout(this.#timer);
    this.#view?.onDisplaced();
    this.#view = view;
    const offset = Math.max(this.#byteCount - this.#keptBytes, Math.min(seenBytes, this.#byteCount));
    view.onAttached(this.id, offset);
    let skipped = this.#byteCount - this.#keptBytes - offset;
    for (const chunk of this.#chunks) {
      const missed = chunk.subarray(Math.min(Math.max(0, -skipped), chunk.length));
      skipped += chunk.length;
      // Less than a connection has room for: they are on their way before what comes next
      if (missed.length > 0) void view.onStdout(missed);
    }
    return {
      ...process,
      close: () => {
        if (this.#view !== view) return;
        this.#view = undefined;
        this.#forgetLater();
      },
      kill: () => process.close(),
    };
  }

  /** Ends its command. */
  close(): void {
    clearTimeout(this.#timer);
    this.#process?.close();
  }

  #forgetLater(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onOver, DETACHED_LIMIT_MS);
    Deno.unrefTimer(this.#timer);
  }
}

/** The terminals of one session. */
export class Terminals implements Disposable {
  readonly #all = new Map<string, Terminal>();

  /** Starts a command on a new terminal and connects its first view. */
  async open(
    view: TerminalView,
    start: (onStdout: (chunk: Uint8Array) => Promise<void>) => Promise<GuestProcess>,
  ): Promise<AttachedProcess> {
    if (this.#all.size >= MAX_TERMINALS) {
      throw new SessionError("limit_reached", `A session has ${MAX_TERMINALS} terminals at once: leave one`);
    }
    const terminal = new Terminal(() => {
      this.#all.delete(terminal.id);
      terminal.close();
    });
    this.#all.set(terminal.id, terminal);
    try {
      terminal.started(await start((chunk) => terminal.output(chunk)));
    } catch (error) {
      this.#all.delete(terminal.id);
      throw error;
    }
    return terminal.attach(view, 0);
  }

  /** Connects another view with a terminal; `seenBytes` of its output were seen before. */
  attach(id: string, view: TerminalView, seenBytes: number): AttachedProcess {
    const terminal = this.#all.get(id);
    if (terminal === undefined) {
      throw new SessionError("not_found", "There is no such terminal any more");
    }
    return terminal.attach(view, seenBytes);
  }

  /** Ends all of them. */
  [Symbol.dispose](): void {
    for (const terminal of this.#all.values()) terminal.close();
    this.#all.clear();
  }
}
