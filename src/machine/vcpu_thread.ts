/**
 * A vCPU thread as main sees it.
 *
 * @module
 */

import type { BootMarker } from "../../devices/boot_marker.ts";
import { signalThread } from "../ffi/sys.ts";
import { RunPage } from "../kvm/run_page.ts";
import type { VcpuHandle } from "../kvm/vm.ts";
import type { VcpuEnd } from "./vcpu_loop.ts";
import { threadProgram, type VcpuReport, type VcpuStart, type VcpuStopped } from "./worker_protocol.ts";

/** The signal that ends a KVM_RUN (not SIGUSR1, on which Deno opens its debugger); `src/vmm/main.ts` has a listener for it that does nothing. */
export const KICK_SIGNAL = { name: "SIGUSR2", number: 12 } as const;

/** A thread that threw: a bug of ours. */
export class ThreadError extends Error {
  override readonly name = "ThreadError";
}

/** What a thread tells while it runs. */
export interface VcpuThreadEvents {
  /** serial output waits */
  readonly onConsole: () => void;
  /** the guest said how far its boot is, at `wallMs` (since 1970) */
  readonly onMarker: (marker: BootMarker, wallMs: number) => void;
}

/** Owns one vCPU's Worker. */
export class VcpuThread {
  /** the thread is about to enter the guest for the first time */
  readonly running: Promise<void>;
  /** the guest ended on this vCPU; stays pending if another one's end stopped this */
  readonly ended: Promise<VcpuEnd>;
  /** the thread has left KVM_RUN for good. Rejects if it threw. */
  readonly stopped: Promise<VcpuStopped>;
  readonly #worker: Worker;
  #runPage: RunPage | undefined;
  #tid: number | undefined;
  #alive = true;
  #kicked = false;
  #onPaused: (pause: number) => void = () => {};

  /** Starts the thread, which loads its code meanwhile; {@linkcode enter} sends it into the guest. */
  constructor(index: number, events: VcpuThreadEvents) {
    const worker = new Worker(threadProgram("vcpu_worker"), { type: "module", name: `vcpu-${index}` });
    this.#worker = worker;
    const running = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<VcpuEnd>();
    const stopped = Promise.withResolvers<VcpuStopped>();
    worker.onmessage = ({ data }: MessageEvent<VcpuReport>) => {
      switch (data.type) {
        case "running":
          this.#tid = data.tid;
          running.resolve();
          // A kick that came before the thread's number was known had nobody to signal.
          if (this.#kicked) this.kick();
          return;
        case "console":
          return events.onConsole();
        case "marker":
          return events.onMarker(data.marker, data.wallMs);
        case "paused":
          return this.#onPaused(data.pause);
        case "ended":
          return ended.resolve(data.end);
        case "stopped":
          this.#alive = false;
          return stopped.resolve(data);
        default:
          data satisfies never;
      }
    };
    worker.onerror = (event) => {
      event.preventDefault();
      const error = new ThreadError(`vCPU thread: ${event.message}`);
      this.#alive = false;
      stopped.reject(error);
      ended.reject(error);
    };
    this.running = running.promise;
    this.ended = ended.promise;
    this.stopped = stopped.promise;
  }

  /** Lets the thread run this vCPU. */
  enter(handle: VcpuHandle, start: Omit<VcpuStart, "type" | "vcpuFd" | "runPage">): void {
    this.#runPage = new RunPage(handle.runPage.buffer);
    const runPage = { hostAddr: handle.runPage.hostAddr, sizeBytes: handle.runPage.sizeBytes };
    const message: VcpuStart = { type: "start", vcpuFd: handle.fd, runPage, ...start };
    this.#worker.postMessage(message);
  }

  /** Ends a thread that never entered the guest. */
  abandon(): void {
    this.#alive = false;
    this.#worker.terminate();
  }

  /**
   * Makes the thread leave KVM_RUN and look at the control word, which has to be set before. `immediateExit` catches it
   * just before it enters the guest, the signal when it is inside.
   */
  kick(): void {
    // Once it has stopped, its run page may be gone.
    if (!this.#alive) return;
    this.#kicked = true;
    if (this.#runPage !== undefined) this.#runPage.immediateExit = true;
    if (this.#tid !== undefined) signalThread(this.#tid, KICK_SIGNAL.number);
  }

  /** Kicks the thread; settles when it waits for the end of pause number `pause`. */
  pause(pause: number): Promise<void> {
    return new Promise((resolve) => {
      this.#onPaused = (reported) => {
        if (reported === pause) resolve();
      };
      this.kick();
    });
  }

  /** Lets a paused thread enter the guest again, once the control word lets it. */
  allowEntry(): void {
    this.#kicked = false;
    if (this.#alive && this.#runPage !== undefined) this.#runPage.immediateExit = false;
  }
}
