/**
 * The serial console between the protocol and a machine: what is typed waits here until the guest's port takes it.
 *
 * @module
 */

/** A machine's end of the console. */
export interface ConsolePort {
  type(bytes: Uint8Array): number;
  takeConsole(): Uint8Array<ArrayBuffer>;
}

/** Output is collected for so long: a kernel writes its log byte by byte. */
const COLLECT_MS = 2;
/** How soon a full port is offered the rest. */
const RETRY_MS = 5;
/** Typed bytes that wait: a guest that never reads must not fill the host's memory. */
const MAX_WAITING_BYTES = 1024 * 1024;

/** Moves console bytes both ways. */
export class Console {
  readonly #emit: (bytes: Uint8Array) => void;
  #port: ConsolePort | undefined;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #collecting: ReturnType<typeof setTimeout> | undefined;

  constructor(emit: (bytes: Uint8Array) => void) {
    this.#emit = emit;
  }

  /** The machine is there. */
  attach(port: ConsolePort): void {
    this.#port = port;
    this.drain();
    this.#offer();
  }

  /** Bytes typed by the user. What a guest does not take for 1 MiB is lost. */
  type(bytes: Uint8Array): void {
    if (this.#waitingBytes + bytes.byteLength > MAX_WAITING_BYTES) return;
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.byteLength;
    this.#offer();
  }

  /** The guest began to write: what it wrote is passed on soon. */
  outputWaits(): void {
    this.#collecting ??= setTimeout(() => this.drain(), COLLECT_MS);
  }

  /** Passes on what the guest wrote until now. */
  drain(): void {
    clearTimeout(this.#collecting);
    this.#collecting = undefined;
    const bytes = this.#port?.takeConsole();
    if (bytes !== undefined && bytes.byteLength > 0) this.#emit(bytes);
  }

  #offer(): void {
    clearTimeout(this.#retry);
    while (this.#port !== undefined) {
      const first = this.#waiting[0];
      if (first === undefined) return;
      const taken = this.#port.type(first);
      this.#waitingBytes -= taken;
      if (taken < first.byteLength) {
        this.#waiting[0] = first.subarray(taken);
        this.#retry = setTimeout(() => this.#offer(), RETRY_MS);
        return;
      }
      this.#waiting.shift();
    }
  }
}
