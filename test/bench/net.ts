/**
 * `bench net`: TCP between the guest and its host, and round trips of one byte, beside QEMU's microvm on the same kind
 * of TAP device: with its packets moved by QEMU itself, and by the host's kernel (vhost).
 *
 * @module
 */

import { exists, run } from "../support/command.ts";
import type { ConsoleShell } from "../support/console_shell.ts";
import type { LoadGuest } from "../support/load_guest/load_guest.ts";
import { type LoadVm, type LoadVmOptions, startOurs, startQemu } from "./load_vm.ts";
import { OURS, type Report, type Row } from "./report.ts";
import { summarise } from "./series.ts";
import type { BenchTools, Program } from "./tools.ts";

/** What to run. */
export interface NetBenchOptions {
  readonly rounds: number;
  readonly guest: LoadGuest;
  readonly tools: BenchTools;
  /** hears what is going on */
  readonly onStep: (text: string) => void;
}

const HOST = "172.30.0.1";
const GUEST = "172.30.0.2/30";
const TAP = "tap7";
const PING_PONG_PORT = 7001;
const JOB_SECONDS = 2;
const SERVER_START_MS = 10_000;
/** Offloads as QEMU and we both ask for them. */
const TAP_MODE = ["mode", "tap", "vnet_hdr"];

interface Job {
  readonly what: string;
  readonly unit: string;
  readonly command: string;
  /** the value in what the command printed */
  readonly read: (output: string) => number | undefined;
}

function iperf(words: string): string {
  return `iperf3 -c ${HOST} -t ${JOB_SECONDS} -O 0.5 -f k ${words} | grep receiver | tail -n 1`;
}

function gigabits(output: string): number | undefined {
  const kilobits = /([0-9.]+) Kbits\/sec/.exec(output)?.[1];
  return kilobits === undefined ? undefined : Number(kilobits) / 1e6;
}

const TCP = { unit: "Gbit/s", read: gigabits } as const;
const JOBS: readonly Job[] = [
  { what: "TCP, guest to host, 1 stream", ...TCP, command: iperf("-P 1") },
  { what: "TCP, guest to host, 4 streams", ...TCP, command: iperf("-P 4") },
  { what: "TCP, host to guest, 1 stream", ...TCP, command: iperf("-P 1 -R") },
  { what: "TCP, host to guest, 4 streams", ...TCP, command: iperf("-P 4 -R") },
  {
    what: "round trips of 1 byte, one at a time",
    unit: "1/s",
    command: `ping_pong ask ${HOST} ${PING_PONG_PORT} ${JOB_SECONDS * 1000}`,
    read: (output) => Number.parseFloat(output),
  },
];

/** Runs the benchmark; it takes root, for network namespaces. */
export async function benchNet(options: NetBenchOptions): Promise<Report> {
  const { rounds, onStep } = options;
  await using resources = new AsyncDisposableStack();
  const vms: Record<string, LoadVm> = {};
  for (const [index, [name, start]] of Object.entries(monitors(options)).entries()) {
    onStep(`booting the guest in ${name}`);
    const namespace = resources.use(new Namespace(`pdk-bench-${Deno.pid}-${index}`, options.tools)).name;
    const net = { namespace, tap: TAP, address: GUEST };
    vms[name] = resources.use(await start({ guest: options.guest, net }));
    await untilServed(vms[name]);
  }
  const values: Record<string, number[]>[] = JOBS.map(() => ({}));
  for (let round = 0; round <= rounds; round++) {
    for (const [index, job] of JOBS.entries()) {
      onStep(`round ${round} of ${rounds}: ${job.what}`);
      for (const [name, { shell }] of Object.entries(vms)) {
        const value = await measure(job, name, shell);
        // The first round fills caches.
        if (round > 0) ((values[index] ?? {})[name] ??= []).push(value);
      }
    }
  }
  const rows = JOBS.map(({ what, unit }, index): Row => ({
    what,
    unit,
    contenders: Object.fromEntries(
      Object.entries(values[index] ?? {}).map(([name, measured]) => [name, summarise(measured)]),
    ),
    goal: { ratio: { atLeast: 1 } },
  }));
  return { name: "net", rows };
}

async function measure(job: Job, name: string, shell: ConsoleShell): Promise<number> {
  const output = await shell.run(job.command);
  const value = job.read(output);
  if (value === undefined || Number.isNaN(value)) throw new NetError(`${name}, ${job.what}: ${output}`);
  return value;
}

function monitors(
  { tools: { qemu } }: NetBenchOptions,
): Record<string, (options: LoadVmOptions) => Promise<LoadVm>> {
  const ours = { [OURS]: (options: LoadVmOptions): Promise<LoadVm> => startOurs(options) };
  if (qemu === undefined) return ours;
  const peer = (program: Program, vhost: boolean) => (options: LoadVmOptions): Promise<LoadVm> =>
    startQemu(program, options, vhost);
  // Where the module is missing, the bench goes without
  if (!exists("/dev/vhost-net")) {
    new Deno.Command("modprobe", { args: ["vhost_net"], stderr: "null" }).outputSync();
  }
  const vhost = exists("/dev/vhost-net") ? { "qemu, vhost": peer(qemu, true) } : {};
  return { ...ours, qemu: peer(qemu, false), ...vhost };
}

/** A network namespace with a TAP device, and servers on its address. */
class Namespace implements AsyncDisposable {
  readonly name: string;
  readonly #servers: Deno.ChildProcess[] = [];

  constructor(name: string, { iperf3, pingPong }: BenchTools) {
    if (iperf3 === undefined || pingPong === undefined) {
      throw new NetError("There is no iperf3 on this machine, and none in the cache");
    }
    this.name = name;
    run("ip", ["netns", "add", name]);
    const ip = (...args: string[]): string => run("ip", ["-n", name, ...args]);
    ip("tuntap", "add", TAP, ...TAP_MODE);
    ip("addr", "add", `${HOST}/30`, "dev", TAP);
    ip("link", "set", TAP, "up");
    ip("link", "set", "lo", "up");
    this.#serve([...iperf3, "-s", "-B", HOST]);
    this.#serve([pingPong, "serve", HOST, `${PING_PONG_PORT}`]);
  }

  #serve(argv: readonly string[]): void {
    const args = ["netns", "exec", this.name, ...argv];
    this.#servers.push(
      new Deno.Command("ip", { args, stdin: "null", stdout: "null", stderr: "inherit" }).spawn(),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) server.kill("SIGKILL");
    await Promise.all(this.#servers.map(({ status }) => status));
    run("ip", ["netns", "del", this.name]);
  }
}

/** The servers start while the guest boots; emulated, a slow one may not listen yet. */
async function untilServed({ shell }: LoadVm): Promise<void> {
  const ready = `ping_pong ask ${HOST} ${PING_PONG_PORT} 1 && iperf3 -c ${HOST} -n 1k | grep -q receiver`;
  for (const deadline = performance.now() + SERVER_START_MS;;) {
    const { exitCode, output } = await shell.tryRun(ready);
    if (exitCode === 0) return;
    if (performance.now() > deadline) throw new NetError(`The guest does not reach its host: ${output}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** A network job gave no figure. */
export class NetError extends Error {
  override readonly name = "NetError";
}
