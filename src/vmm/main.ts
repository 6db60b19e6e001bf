/**
 * A VMM process: one VM, told what to do on stdin and telling what happens on stdout (`protocol.ts`).
 *
 * @module
 */

import { collectGarbage } from "../ffi/collect_garbage.ts";
import { SysError } from "../ffi/errno.ts";
import { KvmError } from "../kvm/kvm.ts";
import { ConfigError } from "../machine/config.ts";
import { DeviceError } from "../machine/io_thread.ts";
import { Machine } from "../machine/machine.ts";
import { KICK_SIGNAL } from "../machine/vcpu_thread.ts";
import { Console } from "./console.ts";
import { LineReader } from "./line_reader.ts";
import { MAX_LINE_BYTES, VMM_EXIT, type VmmEvent, type VmmRequest } from "./protocol.ts";

/** Grace for a guest when the process itself is told to stop and the configuration says nothing of it. */
const DEFAULT_GRACE_MS = 10_000;

const encoder = new TextEncoder();

/** Writes one event. Synchronous: an exit right after it must not lose it. */
function send(event: VmmEvent): void {
  const line = encoder.encode(`${JSON.stringify(event)}\n`);
  try {
    for (let done = 0; done < line.byteLength;) done += Deno.stdout.writeSync(line.subarray(done));
  } catch {
    // Nobody reads: the control process is gone, and stdin's end will say so.
  }
}

function fail(error: unknown): never {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof ConfigError
    ? "config"
    : error instanceof KvmError
    ? "kvm"
    : error instanceof SysError || error instanceof DeviceError
    ? "host"
    : "bug";
  if (code === "bug") console.error(error);
  send({ type: "failed", code, message });
  Deno.exit(VMM_EXIT[code]);
}

/** Requests from stdin, one a line. The end of stdin ends the process, and with it the guest. */
async function readRequests(handle: (request: VmmRequest) => void): Promise<never> {
  for await (const line of new LineReader(Deno.stdin.readable, MAX_LINE_BYTES)) {
    let request: VmmRequest;
    try {
      request = JSON.parse(line);
    } catch (cause) {
      fail(new ConfigError("request", "Cannot read a request: it is not JSON", { cause }));
    }
    handle(request);
  }
  Deno.exit(VMM_EXIT.ok);
}

class Vmm {
  #machine: Promise<Machine> | undefined;
  #console: Console | undefined;
  #graceMs = DEFAULT_GRACE_MS;

  handle(request: VmmRequest): void {
    switch (request.type) {
      case "start":
        this.#machine ??= this.#start(request.config);
        this.#machine.catch(fail);
        return;
      case "stop":
        return this.stop(request.graceMs);
      case "pause":
        return this.#tell((machine) => machine.pause(), (pauseMs) => ({ type: "paused", pauseMs }));
      case "resume":
        return this.#tell((machine) => machine.resume(), () => ({ type: "resumed" }));
      case "resize":
        return this.#resize(request.cols, request.rows);
      case "link":
        return this.#setLink(request.up);
      case "console":
        this.#console?.type(Uint8Array.fromBase64(request.data));
        return;
      default:
        request satisfies never;
        fail(new ConfigError("request", `Cannot serve a request of type "${(request as VmmRequest).type}"`));
    }
  }

  /** Asks the guest to power off, and kills it after a while. */
  stop(graceMs = this.#graceMs): void {
    if (this.#machine === undefined) Deno.exit(VMM_EXIT.ok);
    this.#machine.then((machine) => machine.stop(graceMs), fail);
  }

  #resize(cols: number, rows: number): void {
    const isSize = (value: number): boolean => Number.isInteger(value) && value > 0 && value <= 0xffff;
    if (!isSize(cols) || !isSize(rows)) {
      fail(new ConfigError("resize", `Cannot have a window of ${cols} by ${rows} characters`));
    }
    this.#machine?.then((machine) => machine.resize(cols, rows), () => {/* its start reports it */});
  }

  #setLink(up: boolean): void {
    if (typeof up !== "boolean") {
      fail(new ConfigError("link", `Cannot have a link that is ${up}: true or false`));
    }
    this.#machine?.then((machine) => machine.setLink(up), () => {/* its start reports it */});
  }

  /** Has the machine do something and sends what came of it: nothing if the machine ended instead. */
  #tell<T>(request: (machine: Machine) => Promise<T | undefined>, answer: (result: T) => VmmEvent): void {
    if (this.#machine === undefined) fail(new ConfigError("request", "Cannot do this before a start"));
    this.#machine.then(request).then((result) => {
      if (result !== undefined) send(answer(result));
    }).catch(fail);
  }

  async #start(config: Parameters<typeof Machine.start>[0]): Promise<Machine> {
    // Console input that arrives before the machine runs waits in here.
    const console = this.#console = new Console((data) => send({ type: "console", data: data.toBase64() }));
    this.#graceMs = config.graceMs ?? DEFAULT_GRACE_MS;
    const machine = await Machine.start(
      config,
      () => console.outputWaits(),
      ({ cid, port }) => send({ type: "vsock_refused", cid, port }),
    );
    send({ type: "started", timings: machine.timings });
    machine.booted.then((timings) => send({ type: "booted", timings }));
    console.attach(machine);
    collectGarbage();
    machine.ended.then((end) => {
      console.drain();
      send({ type: "stopped", ...end });
      Deno.exit(VMM_EXIT.ok);
    }).catch(fail);
    return machine;
  }
}

const vmm = new Vmm();
// The kick signal only has to interrupt KVM_RUN.
Deno.addSignalListener(KICK_SIGNAL.name, () => {});
// Ctrl-C in a terminal goes to the whole process group: what it means is the control process's business.
Deno.addSignalListener("SIGINT", () => {});
Deno.addSignalListener("SIGTERM", () => vmm.stop());
globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  fail(event.reason);
});
send({ type: "hello", pid: Deno.pid });
readRequests((request) => vmm.handle(request)).catch(fail);
