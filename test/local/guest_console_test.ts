import { deepEqual, equal } from "node:assert/strict";
import { type GuestConsoleOptions, runOnConsole, type VmmChild } from "../../src/local/guest_console.ts";
import type { VmConfig, VmmEvent, VmmRequest } from "../../src/vmm/protocol.ts";

const CONFIG: VmConfig = { kernelPath: "/k", cmdline: "", memoryMib: 128, cpus: 1, disks: [] };
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const consoleEvent = (text: string): VmmEvent => ({ type: "console", data: encode(text).toBase64() });
const stopped = (reason: "reset" | "poweroff" | "killed"): VmmEvent => ({
  type: "stopped",
  reason,
  exits: {},
});

/** VMM processes, each of which answers a request of the type that it waits for with its events and ends. */
function fakeVmms(scripts: readonly { on: VmmRequest["type"]; events: readonly VmmEvent[] }[]): {
  readonly spawn: () => VmmChild;
  readonly requests: VmmRequest[][];
} {
  const requests: VmmRequest[][] = [];
  const spawn = (): VmmChild => {
    const script = scripts[requests.length];
    const received: VmmRequest[] = [];
    requests.push(received);
    const stdout = new TransformStream<Uint8Array, Uint8Array>();
    const writer = stdout.writable.getWriter();
    const stdin = new WritableStream<Uint8Array>({
      write(line): void {
        const request: VmmRequest = JSON.parse(new TextDecoder().decode(line));
        received.push(request);
        if (request.type !== script?.on) return;
        void writer.write(encode(script.events.map((event) => `${JSON.stringify(event)}\n`).join("")));
        void writer.close();
      },
    });
    const stderr = new Blob([]).stream();
    return { stdin, stdout: stdout.readable, stderr, status: Promise.resolve({ code: 0 }), kill: () => {} };
  };
  return { spawn, requests };
}

function consoleOf(change: Partial<GuestConsoleOptions>): { options: GuestConsoleOptions; output: string[] } {
  const output: string[] = [];
  const options = {
    config: CONFIG,
    onReboot: "restart",
    graceMs: 1234,
    input: new ReadableStream<Uint8Array>(),
    onTimings: (): void => {},
    onOutput: (bytes: Uint8Array): void => void output.push(new TextDecoder().decode(bytes)),
    watchWindow: () => () => {},
    signal: new AbortController().signal,
    ...change,
  } as const;
  return { options, output };
}

Deno.test("runOnConsole() starts the VM again after a reboot, and what is typed goes to the new one", async () => {
  const { spawn, requests } = fakeVmms([
    { on: "start", events: [consoleEvent("first"), stopped("reset")] },
    { on: "console", events: [consoleEvent("second"), stopped("poweroff")] },
  ]);
  let typeNow: ReadableStreamDefaultController<Uint8Array> | undefined;
  const input = new ReadableStream<Uint8Array>({ start: (own): void => void (typeNow = own) });
  const { options, output } = consoleOf({ input });
  const running = runOnConsole(spawn, options);
  while (requests[1]?.length !== 1) await new Promise((resolve) => setTimeout(resolve, 10));
  typeNow?.enqueue(encode("x"));
  deepEqual(await running, stopped("poweroff"));
  deepEqual(output, ["first", "second"]);
  deepEqual(requests.map((received) => received.map(({ type }) => type)), [["start"], ["start", "console"]]);
  deepEqual(requests[1]?.[0], { type: "start", config: CONFIG });
});

Deno.test("runOnConsole() ends with a reboot unless it is to be followed", async () => {
  const { spawn, requests } = fakeVmms([{ on: "start", events: [stopped("reset")] }]);
  const { options } = consoleOf({ onReboot: "exit" });
  deepEqual(await runOnConsole(spawn, options), stopped("reset"));
  equal(requests.length, 1);
});

Deno.test("runOnConsole() does not start a guest again that was asked to end", async () => {
  const { spawn, requests } = fakeVmms([{ on: "stop", events: [stopped("reset")] }]);
  const leaving = new AbortController();
  const { options } = consoleOf({ signal: leaving.signal });
  const running = runOnConsole(spawn, options);
  leaving.abort();
  deepEqual(await running, stopped("reset"));
  deepEqual(requests, [[{ type: "start", config: CONFIG }, { type: "stop", graceMs: 1234 }]]);
});

Deno.test("runOnConsole() asks a guest to end that is started after the user left", async () => {
  const { spawn, requests } = fakeVmms([{ on: "stop", events: [stopped("killed")] }]);
  const { options } = consoleOf({ signal: AbortSignal.abort() });
  deepEqual(await runOnConsole(spawn, options), stopped("killed"));
  equal(requests.length, 1);
});

Deno.test("runOnConsole() quits at once by its keys", async () => {
  const { spawn, requests } = fakeVmms([{ on: "stop", events: [stopped("killed")] }]);
  const { options } = consoleOf({ input: new Blob([Uint8Array.of(0x01, 0x03)]).stream() });
  deepEqual(await runOnConsole(spawn, options), stopped("killed"));
  deepEqual(requests[0]?.[1], { type: "stop", graceMs: 0 });
});
