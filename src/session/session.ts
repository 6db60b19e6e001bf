/**
 * One session: a fresh VM on a fresh overlay of an agent's image, with its network and its model gateway.
 * What it takes from the host is recorded before it is made and given back newest first, on every way out.
 *
 * @module
 */

import { join } from "node:path";
import { prepareMonitor } from "../images/monitor_code.ts";
import type { PreparedImage } from "../images/prepare.ts";
import { linkServices, openEgress } from "../network/egress.ts";
import type { EgressPolicy } from "../network/egress_policy.ts";
import {
  type GatewayDecision,
  type GatewayLimits,
  type GatewayUpstream,
  startModelGateway,
} from "../network/model_gateway.ts";
import type { ModelBudget } from "../network/model_budget.ts";
import { vsockDenial } from "../network/network_decision.ts";
import type { NetworkLog } from "../network/network_log.ts";
import { LINK } from "../network/ruleset.ts";
import { createNetwork, startRelay } from "../network/session_network.ts";
import type { VmConfig } from "../vmm/protocol.ts";
import { type BootPhases, bootPhases } from "./boot_phases.ts";
import { GuestClient, type GuestHello, readHello } from "./guest_client.ts";
import { startHeartbeat } from "./heartbeat.ts";
import { removeRecorded, writeRecord } from "./record.ts";
import { SessionError } from "./session_error.ts";
import { describeVmEnd, type VmEnd, VmmProcess } from "./vmm_process.ts";

/** Port that the guest's init greets the host on. */
const HELLO_PORT = 1025;
const GUEST_CID = 3;
/** `sun_path` of a Unix socket address holds this many bytes with its NUL. */
const MAX_SOCKET_PATH_BYTES = 107;
const GUEST_POWER_OFF_GRACE_MS = 10_000;
const BOOT_TIMER_SLACK_MS = 5000;
const RESUME_LIMIT_MS = 30_000;

/** What a session is made from. */
export interface SessionOptions {
  /** unique on this host: see `newSessionId` */
  readonly id: string;
  readonly stateDir: string;
  readonly image: PreparedImage;
  /** guest's host name */
  readonly hostname: string;
  readonly memoryMib: number;
  readonly cpus: number;
  /** longest time from the VM's start to the guest's greeting in `ms` */
  readonly bootTimeoutMs: number;
  readonly upstream: GatewayUpstream;
  readonly gatewayLimits?: Partial<GatewayLimits>;
  /** counts what the model's answers use */
  readonly budget: ModelBudget;
  readonly onGateway: (decision: GatewayDecision) => void;
  /** what the guest may reach beside its model */
  readonly policy: EgressPolicy;
  /** takes what becomes of the guest's attempts */
  readonly networkLog: Pick<NetworkLog, "add">;
  /** given the bodies of the agent's requests to its model (default: nobody) */
  readonly onModelRequest?: ((body: Uint8Array) => void) | undefined;
  /** told when a step of the start begins and ends */
  readonly onPhase: (phase: "network" | "vm_start" | "boot", ms: number) => void;
  readonly signal: AbortSignal;
}

/** Base URL of the model gateway as the guest sees it. */
export const GATEWAY_URL = `http://${LINK.hostAddr}:${LINK.gatewayPort}`;

function kernelCmdline(hostname: string): string {
  return [
    "console=ttyS0",
    "quiet",
    "reboot=t",
    "panic=-1",
    "root=/dev/vda",
    "rw",
    "init=/sbin/paddock-init",
    // Our kernel finds its devices by the command line; to interpret ACPI's tables would only take time.
    "acpi=off",
    "i8042.nokbd",
    "i8042.noaux",
    "tsc=reliable",
    "random.trust_cpu=on",
    `paddock.ip=${LINK.guestAddr}/${LINK.prefixLength}`,
    // What goes nowhere else comes to the link's filter, which refuses it at once and remembers it.
    `paddock.gw=${LINK.hostAddr}`,
    `paddock.hostname=${hostname}`,
  ].join(" ");
}

function vmConfig(options: SessionOptions, folder: string): VmConfig {
  const { image } = options;
  return {
    kernelPath: image.kernelPath,
    cmdline: kernelCmdline(options.hostname),
    memoryMib: options.memoryMib,
    cpus: options.cpus,
    disks: [{
      path: join(folder, "overlay.qcow2"),
      format: "qcow2",
      overlayOf: { path: image.rootfsPath, format: image.rootfsFormat },
    }],
    net: { tap: LINK.tap, mac: LINK.guestMac },
    balloon: true,
    vsock: { cid: GUEST_CID, socketPath: join(folder, "v.sock") },
  };
}

function checkSocketRoom(folder: string): void {
  const longest = join(folder, `v.sock_${HELLO_PORT}`);
  if (new TextEncoder().encode(longest).length <= MAX_SOCKET_PATH_BYTES) return;
  throw new SessionError("config", `Cannot make sockets in "${folder}": path is too long, set PADDOCK_STATE`);
}

/** A VM that has booted and takes commands. */
export class Session implements AsyncDisposable {
  /** id, unique on this host */
  readonly id: string;
  /** folder of the session: gone after disposal */
  readonly folder: string;
  /** control channel */
  readonly guest: GuestClient;
  /** what the guest said when it was up */
  readonly hello: GuestHello;
  readonly #vmm: VmmProcess;
  #heartbeat: Disposable;
  readonly #stack: AsyncDisposableStack;

  private constructor(facts: {
    readonly id: string;
    readonly folder: string;
    readonly guest: GuestClient;
    readonly hello: GuestHello;
    readonly vmm: VmmProcess;
    readonly stack: AsyncDisposableStack;
  }) {
    this.id = facts.id;
    this.folder = facts.folder;
    this.guest = facts.guest;
    this.hello = facts.hello;
    this.#vmm = facts.vmm;
    this.#stack = facts.stack;
    this.#heartbeat = this.#watch();
  }

  /**
   * Makes and boots a session.
   *
   * @throws {SessionError} when the guest does not come up; nothing is left behind
   */
  static async create(options: SessionOptions): Promise<Session> {
    options.signal.throwIfAborted();
    await using stack = new AsyncDisposableStack();
    const { id } = options;
    stack.defer(() => removeRecorded(options.stateDir, id));
    const { folder, record } = await writeRecord(options.stateDir, id);
    checkSocketRoom(folder);

    const networkStart = performance.now();
    const { policy, networkLog } = options;
    const network = await createNetwork(record.namespace, options.cpus, linkServices(policy));
    const vmm = VmmProcess.spawn(network.enter, await prepareMonitor(options.signal));
    stack.defer(async () => void await vmm.end());
    vmm.onVsockRefused = (cid, port) => networkLog.add(vsockDenial(cid, port));
    const kill = (): void => void vmm.kill();
    options.signal.addEventListener("abort", kill, { once: true });
    stack.defer(() => options.signal.removeEventListener("abort", kill));
    // Bounds every step up to the greeting, a VMM that never says anything included.
    const bootTimer = setTimeout(kill, options.bootTimeoutMs + BOOT_TIMER_SLACK_MS);
    using _ = { [Symbol.dispose]: () => clearTimeout(bootTimer) };
    const gatewayPath = join(folder, "gw.sock");
    const gateway = startModelGateway({
      socketPath: gatewayPath,
      upstream: options.upstream,
      ...(options.gatewayLimits === undefined ? {} : { limits: options.gatewayLimits }),
      budget: options.budget,
      onDecision: options.onGateway,
      onRequest: options.onModelRequest,
    });
    stack.defer(() => gateway.close());
    const relay = startRelay(network, { port: LINK.gatewayPort, protocol: "tcp", socketPath: gatewayPath });
    relay.catch(() => {/* awaited below, once there is nothing that it could leave open */});
    stack.use(await openEgress({ network, policy, log: networkLog, folder }));
    await relay;
    options.onPhase("network", performance.now() - networkStart);

    const vmStart = performance.now();
    using greetings = Deno.listen({ transport: "unix", path: join(folder, `v.sock_${HELLO_PORT}`) });
    await vmm.start(vmConfig(options, folder));
    options.onPhase("vm_start", performance.now() - vmStart);

    const bootStart = performance.now();
    const hello = await waitForHello(greetings, {
      vmm,
      timeoutMs: options.bootTimeoutMs,
      signal: options.signal,
    });
    const guest = new GuestClient(join(folder, "v.sock"));
    await guest.setClock();
    options.onPhase("boot", performance.now() - bootStart);
    return new Session({ id, folder, guest, hello, vmm, stack: stack.move() });
  }

  /** phases of the VM's boot */
  get bootMs(): BootPhases | undefined {
    const { timings } = this.#vmm;
    return timings === undefined ? undefined : bootPhases(timings);
  }

  /** settles when the VM is gone, with the reason */
  get ended(): Promise<VmEnd> {
    return this.#vmm.ended;
  }

  /** pid of the VMM process */
  get vmmPid(): number {
    return this.#vmm.pid;
  }

  /** end of the guest's serial output */
  get consoleText(): string {
    return this.#vmm.console.text;
  }

  /** Does something with the guest in bounded time: a guest that stalls it loses its VM. */
  async within<T>(limitMs: number, action: () => Promise<T>): Promise<T> {
    const timer = setTimeout(() => void this.#vmm.kill(), limitMs);
    try {
      return await action();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Stops the guest's vCPUs: nothing in it goes on, and it keeps its memory. */
  async pause(): Promise<void> {
    // It would not answer, and be taken for one that has hung
    this.#heartbeat[Symbol.dispose]();
    await this.#vmm.pause();
  }

  /** Lets a paused guest go on, at the time that it is now. */
  async resume(): Promise<void> {
    await this.#vmm.resume();
    await this.within(RESUME_LIMIT_MS, () => this.guest.setClock());
    this.#heartbeat = this.#watch();
  }

  /**
   * Powers the guest off in an orderly way, so that its disk is whole: by its init, which needs no interrupt and no
   * program of the guest's; if that does not answer, by the VMM's power buttons.
   */
  async powerOff(): Promise<VmEnd> {
    this.#heartbeat[Symbol.dispose]();
    return await this.#vmm.stop(GUEST_POWER_OFF_GRACE_MS, () => this.guest.powerOff());
  }

  /** Ends the VM at once and removes everything of the session. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#heartbeat[Symbol.dispose]();
    await this.#stack.disposeAsync();
  }

  #watch(): Disposable {
    return startHeartbeat(() => this.guest.ping(), (message) => void this.#vmm.abandon(message));
  }
}

async function waitForHello(
  greetings: Deno.UnixListener,
  options: { readonly vmm: VmmProcess; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<GuestHello> {
  const { vmm, signal } = options;
  const over = new AbortController();
  const failure = (code: "boot_failed" | "boot_timeout", message: string): SessionError => {
    const lines = vmm.console.lastLines(12);
    return new SessionError(code, lines === "" ? message : `${message}; the guest's last lines:\n${lines}`);
  };
  const timer = setTimeout(
    () => over.abort(failure("boot_timeout", `Guest did not come up within ${options.timeoutMs / 1000} s`)),
    options.timeoutMs,
  );
  void vmm.ended.then((end) =>
    over.abort(failure("boot_failed", `Guest did not come up: ${describeVmEnd(end)}`))
  );
  const stopped = AbortSignal.any([over.signal, signal]);
  const gaveUp = new Promise<never>((_, reject) => {
    if (stopped.aborted) reject(stopped.reason);
    stopped.addEventListener("abort", () => reject(stopped.reason), { once: true });
  });
  gaveUp.catch(() => {});
  try {
    return await Promise.race([greetings.accept().then(readHello), gaveUp]);
  } finally {
    clearTimeout(timer);
  }
}
